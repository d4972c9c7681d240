CREATE TABLE jobs (
  id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  kind VARCHAR(16) NOT NULL,
  subject VARCHAR(36),
  endpoint TEXT,
  state VARCHAR(12) NOT NULL,
  payload BYTEA NOT NULL,
  sent BYTEA,
  application VARCHAR(96),
  traceparent VARCHAR(64),
  correlationid TEXT,
  ce_id TEXT,
  replays SMALLINT DEFAULT 0 NOT NULL,
  accepted_at BIGINT NOT NULL,
  ended_at BIGINT,
  terminal_type VARCHAR(64),
  terminal BYTEA,
  batch BIGINT,
  line INTEGER,
  PRIMARY KEY (id)
);
CREATE INDEX jobs_active ON jobs (accepted_at) WHERE jobs.state = 'active' AND jobs.subject IS NULL;
CREATE INDEX jobs_application ON jobs (application, ended_at) WHERE application IS NOT NULL;
CREATE INDEX jobs_ce_id ON jobs (ce_id) WHERE ce_id IS NOT NULL;
CREATE INDEX jobs_correlation ON jobs (correlationid) WHERE correlationid IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_ended_of_batches ON jobs (batch, line) WHERE jobs.batch IS NOT NULL AND jobs.state <> 'active';
CREATE INDEX jobs_of_batches ON jobs (batch, line) WHERE jobs.batch IS NOT NULL AND jobs.state = 'active';
CREATE INDEX jobs_open_units ON jobs (endpoint) WHERE jobs.state = 'active' AND jobs.subject IS NOT NULL;
CREATE INDEX jobs_subject ON jobs (subject) WHERE subject IS NOT NULL;
CREATE INDEX jobs_units ON jobs (subject) WHERE jobs.state = 'active' AND jobs.subject IS NOT NULL;
CREATE TABLE steps (
  job_id VARCHAR(36) NOT NULL,
  stage VARCHAR(32) NOT NULL,
  ordinal SMALLINT DEFAULT 0 NOT NULL,
  state VARCHAR(12) NOT NULL,
  waits_for VARCHAR(36),
  woken_by VARCHAR(36),
  queue VARCHAR(96) NOT NULL,
  group_key VARCHAR(256) NOT NULL,
  lane SMALLINT NOT NULL,
  rank SMALLINT NOT NULL,
  deadline BIGINT NOT NULL,
  due BIGINT DEFAULT 4611686018427387904 NOT NULL,
  turn BIGINT NOT NULL,
  tokens INTEGER NOT NULL,
  prefix BIGINT,
  attempts SMALLINT DEFAULT 0 NOT NULL,
  crashes SMALLINT DEFAULT 0 NOT NULL,
  ready_at BIGINT NOT NULL,
  held_at BIGINT,
  waited_since BIGINT,
  started_at BIGINT,
  ended_at BIGINT,
  claim_id BIGINT,
  event_type VARCHAR(64) NOT NULL,
  payload BYTEA,
  context BYTEA,
  read_bytes INTEGER DEFAULT 0 NOT NULL,
  reason TEXT,
  PRIMARY KEY (job_id, stage, ordinal)
);
CREATE INDEX steps_claimed ON steps (claim_id) WHERE claim_id IS NOT NULL;
CREATE INDEX steps_expiring ON steps (deadline) WHERE steps.deadline < 4611686018427387904 AND steps.state IN ('ready', 'waiting', 'parked', 'held');
CREATE INDEX steps_held ON steps (ready_at) WHERE steps.state = 'held';
CREATE INDEX steps_held_since ON steps (held_at) WHERE steps.state = 'held';
CREATE INDEX steps_parked ON steps (waits_for) WHERE steps.state = 'parked';
CREATE INDEX steps_parked_until ON steps (ready_at) WHERE steps.state = 'parked';
CREATE INDEX steps_ready ON steps (queue, lane, rank, due, turn, job_id) WHERE steps.state = 'ready';
CREATE INDEX steps_ready_group ON steps (queue, group_key, lane, rank, due, turn, job_id) WHERE steps.state = 'ready';
CREATE INDEX steps_waiting ON steps (ready_at) WHERE steps.state = 'waiting';
CREATE TABLE claims (
  id BIGSERIAL NOT NULL,
  queue VARCHAR(96) NOT NULL,
  stage VARCHAR(32) NOT NULL,
  group_key VARCHAR(256) NOT NULL,
  lane SMALLINT NOT NULL,
  size SMALLINT NOT NULL,
  tokens INTEGER NOT NULL,
  "full" BOOLEAN DEFAULT false NOT NULL,
  sender VARCHAR(128) NOT NULL,
  worker VARCHAR(128),
  claimed_at BIGINT NOT NULL,
  started_at BIGINT,
  renewed_at BIGINT DEFAULT 0 NOT NULL,
  lease_until BIGINT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX claims_lease ON claims (lease_until);
CREATE TABLE outbox (
  id BIGSERIAL NOT NULL,
  topic VARCHAR(64) NOT NULL,
  key TEXT,
  headers TEXT NOT NULL,
  value BYTEA NOT NULL,
  set_aside_at BIGINT,
  set_aside_reason TEXT,
  PRIMARY KEY (id)
);
CREATE INDEX outbox_set_aside ON outbox (key) WHERE set_aside_at IS NOT NULL;
CREATE TABLE dead_letters (
  id VARCHAR(36) NOT NULL,
  job_id VARCHAR(36),
  refers_to VARCHAR(36),
  tenant VARCHAR(64),
  category VARCHAR(16) NOT NULL,
  code VARCHAR(32),
  reason TEXT NOT NULL,
  failure VARCHAR(16),
  place TEXT,
  stage VARCHAR(32) NOT NULL,
  attempts SMALLINT NOT NULL,
  topic VARCHAR(64) NOT NULL,
  partition INTEGER,
  "offset" BIGINT,
  key TEXT,
  ce_id TEXT,
  ce_subject TEXT,
  correlationid TEXT,
  traceparent TEXT,
  headers TEXT NOT NULL,
  value BYTEA NOT NULL,
  size INTEGER,
  truncated BOOLEAN DEFAULT false NOT NULL,
  died_at BIGINT NOT NULL,
  replayed_at BIGINT,
  PRIMARY KEY (id)
);
CREATE INDEX dead_letters_ce_id ON dead_letters (ce_id) WHERE "ce_id" IS NOT NULL;
CREATE INDEX dead_letters_ce_subject ON dead_letters (ce_subject) WHERE "ce_subject" IS NOT NULL;
CREATE INDEX dead_letters_correlationid ON dead_letters (correlationid) WHERE "correlationid" IS NOT NULL;
CREATE INDEX dead_letters_died ON dead_letters (died_at);
CREATE INDEX dead_letters_failure ON dead_letters (failure) WHERE "failure" IS NOT NULL;
CREATE INDEX dead_letters_job ON dead_letters (job_id);
CREATE INDEX dead_letters_key ON dead_letters (key) WHERE "key" IS NOT NULL;
CREATE INDEX dead_letters_refers_to ON dead_letters (refers_to) WHERE "refers_to" IS NOT NULL;
CREATE TABLE accepted (
  job_id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  digest VARCHAR(64) NOT NULL,
  at BIGINT NOT NULL,
  published BOOLEAN DEFAULT false NOT NULL,
  senders INTEGER DEFAULT '1' NOT NULL,
  PRIMARY KEY (job_id)
);
CREATE INDEX accepted_at ON accepted (at);
CREATE TABLE lost_calls (
  job_id VARCHAR(36) NOT NULL,
  claim_id BIGINT NOT NULL,
  model VARCHAR(64) NOT NULL,
  currency VARCHAR(3),
  bound BIGINT,
  amount BIGINT,
  told_at BIGINT,
  PRIMARY KEY (job_id, claim_id)
);
CREATE INDEX lost_calls_known ON lost_calls (job_id) WHERE lost_calls.amount IS NOT NULL AND lost_calls.told_at IS NOT NULL;
CREATE TABLE usage_counted (
  what VARCHAR(32) NOT NULL,
  until BIGINT NOT NULL,
  PRIMARY KEY (what)
);
CREATE TABLE turns (
  queue VARCHAR(96) NOT NULL,
  lane SMALLINT NOT NULL,
  urgency SMALLINT NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  flow BIGINT NOT NULL,
  weight SMALLINT DEFAULT 1 NOT NULL,
  turn BIGINT NOT NULL,
  PRIMARY KEY (queue, lane, urgency, tenant, flow)
);
CREATE TABLE budgets (
  group_key VARCHAR(256) NOT NULL,
  tokens INTEGER NOT NULL,
  learnt_at BIGINT DEFAULT 0 NOT NULL,
  PRIMARY KEY (group_key)
);
CREATE TABLE duties (
  name VARCHAR(32) NOT NULL,
  holder VARCHAR(128) NOT NULL,
  lease_until BIGINT NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE looks (
  what VARCHAR(32) NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (what)
);
CREATE TABLE identity (
  id VARCHAR(36) NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE readers (
  name VARCHAR(128) NOT NULL,
  lease_until BIGINT NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE positions (
  topic VARCHAR(255) NOT NULL,
  partition INTEGER NOT NULL,
  log VARCHAR(64) NOT NULL,
  next BIGINT NOT NULL,
  reader VARCHAR(128),
  fingerprints TEXT,
  back_at BIGINT,
  back_from BIGINT,
  back_to BIGINT,
  back_before BIGINT,
  read_until BIGINT,
  log_end BIGINT,
  PRIMARY KEY (topic, partition)
);
CREATE TABLE metrics (
  what VARCHAR(8) NOT NULL,
  at BIGINT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (what)
);
CREATE TABLE deployment (
  name VARCHAR(32) NOT NULL,
  value VARCHAR(255) NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE troubles (
  holder VARCHAR(128) NOT NULL,
  subject VARCHAR(255) NOT NULL,
  reason TEXT NOT NULL,
  since BIGINT NOT NULL,
  seen_at BIGINT NOT NULL,
  PRIMARY KEY (holder, subject)
);
CREATE TABLE probes (
  slot INTEGER NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (slot)
);
CREATE TABLE process_starts (
  name VARCHAR(255) NOT NULL,
  what VARCHAR(255) NOT NULL,
  host VARCHAR(255) NOT NULL,
  pid INTEGER NOT NULL,
  began BIGINT NOT NULL,
  at BIGINT NOT NULL,
  killed_at BIGINT,
  PRIMARY KEY (name)
);
CREATE TABLE changes (
  number BIGSERIAL NOT NULL,
  xact BIGINT NOT NULL,
  kind VARCHAR(8) DEFAULT 'entry' NOT NULL,
  subject BIGINT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (number)
);
CREATE INDEX changes_order ON changes (kind, xact, number);
CREATE TABLE followers (
  holder VARCHAR(128) NOT NULL,
  kind VARCHAR(8) NOT NULL,
  xact BIGINT NOT NULL,
  number BIGINT NOT NULL,
  seen_at BIGINT NOT NULL,
  PRIMARY KEY (holder, kind)
);
CREATE TABLE migrations (
  number INTEGER NOT NULL,
  name VARCHAR(64) NOT NULL,
  oldest INTEGER NOT NULL,
  applied_at BIGINT NOT NULL,
  PRIMARY KEY (number)
);
CREATE TABLE table_stamps (
  name VARCHAR(63) NOT NULL,
  digest VARCHAR(12) NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE responses (
  job_id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  body BYTEA NOT NULL,
  asked_at BIGINT NOT NULL,
  PRIMARY KEY (job_id)
);
CREATE INDEX responses_asked ON responses (asked_at);
CREATE TABLE breakers (
  model VARCHAR(64) NOT NULL,
  failures INTEGER DEFAULT 0 NOT NULL,
  openings SMALLINT DEFAULT 0 NOT NULL,
  opened_at BIGINT,
  open_until BIGINT,
  probed_until BIGINT,
  probed_by VARCHAR(64),
  reason TEXT,
  tenants TEXT,
  answered TEXT,
  drill VARCHAR(8),
  drilled_until BIGINT,
  PRIMARY KEY (model)
);
CREATE TABLE model_calls (
  model VARCHAR(64) NOT NULL,
  minute BIGINT NOT NULL,
  calls INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  ms BIGINT NOT NULL,
  slowest_ms INTEGER NOT NULL,
  PRIMARY KEY (model, minute)
);
CREATE TABLE model_generations (
  alias VARCHAR(64) NOT NULL,
  returned TEXT NOT NULL,
  generation INTEGER NOT NULL,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (alias)
);
CREATE TABLE decision_calibrations (
  tenant VARCHAR(64) NOT NULL,
  model VARCHAR(64) NOT NULL,
  question VARCHAR(64) NOT NULL,
  fingerprint VARCHAR(64) NOT NULL,
  temperature FLOAT NOT NULL,
  bias JSON NOT NULL,
  labels INTEGER NOT NULL,
  made_at BIGINT NOT NULL,
  PRIMARY KEY (tenant, model, question)
);
CREATE TABLE scores_counted (
  criterion VARCHAR(64) NOT NULL,
  not_judged VARCHAR(32) NOT NULL,
  scores BIGINT NOT NULL,
  PRIMARY KEY (criterion, not_judged)
);
CREATE TABLE documents (
  id BIGSERIAL NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  knowledge VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  sha256 VARCHAR(64) NOT NULL,
  format VARCHAR(16) NOT NULL,
  embedder TEXT NOT NULL,
  size BIGINT NOT NULL,
  chunks INTEGER NOT NULL,
  added_at BIGINT NOT NULL,
  attributes TEXT DEFAULT '{}' NOT NULL,
  PRIMARY KEY (id)
);
CREATE UNIQUE INDEX documents_name ON documents (tenant, knowledge, name);
CREATE TABLE chunks (
  id BIGSERIAL NOT NULL,
  document_id BIGINT NOT NULL,
  key VARCHAR(32) NOT NULL,
  section TEXT NOT NULL,
  start INTEGER NOT NULL,
  stop INTEGER NOT NULL,
  text TEXT NOT NULL,
  vector BYTEA NOT NULL,
  terms BYTEA,
  PRIMARY KEY (id)
);
CREATE INDEX chunks_document ON chunks (document_id, id);
CREATE TABLE base_uses (
  tenant VARCHAR(64) NOT NULL,
  knowledge VARCHAR(64) NOT NULL,
  questions FLOAT NOT NULL,
  asked_at BIGINT NOT NULL,
  PRIMARY KEY (tenant, knowledge)
);
CREATE TABLE stores (
  tenant VARCHAR(64) NOT NULL,
  knowledge VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  metadata TEXT DEFAULT '{}' NOT NULL,
  expire_days INTEGER,
  expired_at BIGINT,
  created_at BIGINT NOT NULL,
  used_at BIGINT NOT NULL,
  PRIMARY KEY (tenant, knowledge)
);
CREATE TABLE file_batches (
  id VARCHAR(64) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  knowledge VARCHAR(64) NOT NULL,
  files TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  cancelled INTEGER,
  PRIMARY KEY (id)
);
CREATE INDEX file_batches_store ON file_batches (tenant, knowledge, created_at);
CREATE TABLE incoming (
  id BIGSERIAL NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  knowledge VARCHAR(64) NOT NULL,
  file_id VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  attributes TEXT DEFAULT '{}' NOT NULL,
  state VARCHAR(16) NOT NULL,
  code VARCHAR(32),
  reason TEXT,
  created_at BIGINT NOT NULL,
  tries INTEGER DEFAULT 0 NOT NULL,
  taken_until BIGINT DEFAULT 0 NOT NULL,
  stays BOOLEAN DEFAULT true NOT NULL,
  PRIMARY KEY (id)
);
CREATE UNIQUE INDEX incoming_file ON incoming (tenant, knowledge, file_id);
CREATE INDEX incoming_next ON incoming (taken_until) WHERE state = 'in_progress';
CREATE TABLE policies (
  tenant VARCHAR(64) NOT NULL,
  version VARCHAR(64) NOT NULL,
  refused TEXT,
  PRIMARY KEY (tenant)
);
CREATE TABLE files (
  id VARCHAR(64) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  purpose VARCHAR(32) NOT NULL,
  name TEXT NOT NULL,
  size BIGINT NOT NULL,
  lines BIGINT,
  digest VARCHAR(64),
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  PRIMARY KEY (id)
);
CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX files_tenant ON files (tenant, created_at, id);
CREATE TABLE pieces (
  file_id VARCHAR(64) NOT NULL,
  number INTEGER NOT NULL,
  path TEXT NOT NULL,
  size BIGINT NOT NULL,
  PRIMARY KEY (file_id, number)
);
CREATE TABLE uploads (
  id VARCHAR(64) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  purpose VARCHAR(32) NOT NULL,
  name TEXT NOT NULL,
  size BIGINT NOT NULL,
  state VARCHAR(16) NOT NULL,
  file_id VARCHAR(64),
  completion VARCHAR(64),
  file_seconds BIGINT,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX uploads_pending ON uploads (expires_at) WHERE state = 'pending';
CREATE TABLE parts (
  id VARCHAR(64) NOT NULL,
  upload_id VARCHAR(64) NOT NULL,
  path TEXT NOT NULL,
  size BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX parts_upload ON parts (upload_id);
CREATE TABLE batches (
  number BIGSERIAL NOT NULL,
  id VARCHAR(64) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  key VARCHAR(64),
  endpoint VARCHAR(64),
  input_file VARCHAR(64) NOT NULL,
  output_file VARCHAR(64),
  error_file VARCHAR(64),
  metadata TEXT NOT NULL,
  defaults TEXT NOT NULL,
  "window" VARCHAR(16) NOT NULL,
  state VARCHAR(16) NOT NULL,
  reason TEXT,
  position BIGINT DEFAULT 0 NOT NULL,
  line INTEGER DEFAULT 0 NOT NULL,
  read BOOLEAN DEFAULT false NOT NULL,
  total BIGINT NOT NULL,
  taken BIGINT DEFAULT 0 NOT NULL,
  completed BIGINT DEFAULT 0 NOT NULL,
  failed BIGINT DEFAULT 0 NOT NULL,
  cached BIGINT DEFAULT 0 NOT NULL,
  prompt_tokens BIGINT DEFAULT 0 NOT NULL,
  completion_tokens BIGINT DEFAULT 0 NOT NULL,
  max_tokens BIGINT,
  withheld VARCHAR(64),
  reserved BIGINT DEFAULT 0 NOT NULL,
  spent BIGINT DEFAULT 0 NOT NULL,
  exhausted BOOLEAN DEFAULT false NOT NULL,
  created_at BIGINT NOT NULL,
  began_at BIGINT,
  cancelling_at BIGINT,
  finalizing_at BIGINT,
  ended_at BIGINT,
  expires_at BIGINT NOT NULL,
  together BOOLEAN DEFAULT false NOT NULL,
  output_ms BIGINT,
  callback TEXT,
  crashes INTEGER DEFAULT 0 NOT NULL,
  PRIMARY KEY (number),
  UNIQUE (id)
);
CREATE UNIQUE INDEX batches_key ON batches (tenant, key) WHERE key IS NOT NULL;
CREATE INDEX batches_tenant ON batches (tenant, created_at, number);
CREATE INDEX batches_unfinished ON batches (number) WHERE batches.ended_at IS NULL;
CREATE TABLE lines (
  batch BIGINT NOT NULL,
  number INTEGER NOT NULL,
  custom_id TEXT,
  state VARCHAR(8) NOT NULL,
  jobs INTEGER NOT NULL,
  tokens BIGINT NOT NULL,
  text BYTEA,
  code VARCHAR(32),
  reason TEXT,
  param VARCHAR(128),
  PRIMARY KEY (batch, number)
);
CREATE INDEX lines_named ON lines (batch, custom_id) WHERE custom_id IS NOT NULL;
CREATE INDEX lines_refused ON lines (batch, number) WHERE lines.state = 'refused';
CREATE TABLE evals (
  number BIGSERIAL NOT NULL,
  id VARCHAR(64) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  data_source_config TEXT NOT NULL,
  testing_criteria TEXT NOT NULL,
  metadata TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  bytes BIGINT DEFAULT 0 NOT NULL,
  PRIMARY KEY (number),
  UNIQUE (id)
);
CREATE INDEX evals_tenant ON evals (tenant, number);
CREATE TABLE eval_runs (
  number BIGSERIAL NOT NULL,
  id VARCHAR(64) NOT NULL,
  eval BIGINT NOT NULL,
  eval_id VARCHAR(64) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  testing_criteria TEXT NOT NULL,
  data_source TEXT NOT NULL,
  metadata TEXT NOT NULL,
  state VARCHAR(16) NOT NULL,
  reason TEXT,
  batch VARCHAR(64),
  output_read BIGINT DEFAULT 0 NOT NULL,
  errors_read BIGINT DEFAULT 0 NOT NULL,
  total BIGINT DEFAULT 0 NOT NULL,
  tally TEXT DEFAULT '{}' NOT NULL,
  created_at BIGINT NOT NULL,
  ended_at BIGINT,
  removed_at BIGINT,
  bytes BIGINT DEFAULT 0 NOT NULL,
  crashes INTEGER DEFAULT 0 NOT NULL,
  PRIMARY KEY (number),
  UNIQUE (id)
);
CREATE INDEX eval_runs_eval ON eval_runs (eval, number);
CREATE INDEX eval_runs_open ON eval_runs (number) WHERE eval_runs.ended_at IS NULL;
CREATE INDEX eval_runs_removed ON eval_runs (removed_at) WHERE removed_at IS NOT NULL;
CREATE INDEX eval_runs_tenant ON eval_runs (tenant) WHERE removed_at IS NULL;
CREATE TABLE eval_items (
  run BIGINT NOT NULL,
  number INTEGER NOT NULL,
  item TEXT NOT NULL,
  status VARCHAR(8),
  sample TEXT,
  results TEXT,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (run, number)
);
CREATE TABLE entries (
  id BIGSERIAL NOT NULL,
  scope VARCHAR(64) NOT NULL,
  key VARCHAR(64) NOT NULL,
  normalised VARCHAR(64),
  tenant VARCHAR(64) NOT NULL,
  state VARCHAR(8) NOT NULL,
  job_id VARCHAR(36) NOT NULL,
  lane SMALLINT NOT NULL,
  question TEXT,
  vector BYTEA,
  answer BYTEA,
  saved_ms FLOAT DEFAULT 0 NOT NULL,
  made_at BIGINT NOT NULL,
  asked_at BIGINT,
  expires_at BIGINT NOT NULL,
  died_at BIGINT,
  reason TEXT,
  PRIMARY KEY (id)
);
CREATE INDEX entries_died ON entries (died_at) WHERE died_at IS NOT NULL;
CREATE INDEX entries_expiring ON entries (expires_at) WHERE entries.state = 'live';
CREATE INDEX entries_job ON entries (job_id);
CREATE UNIQUE INDEX entries_live ON entries (key) WHERE entries.state = 'live';
CREATE INDEX entries_normalised ON entries (normalised) WHERE state = 'live' OR state = 'pending';
CREATE UNIQUE INDEX entries_pending ON entries (key) WHERE entries.state = 'pending';
CREATE INDEX entries_tenant ON entries (tenant, id) WHERE entries.state = 'live';
CREATE TABLE serves (
  id BIGSERIAL NOT NULL,
  job_id VARCHAR(36) NOT NULL,
  entry_id BIGINT NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  scope VARCHAR(64) NOT NULL,
  tier VARCHAR(12) NOT NULL,
  similarity FLOAT,
  first_job VARCHAR(36) NOT NULL,
  saved_tokens INTEGER NOT NULL,
  saved_ms FLOAT NOT NULL,
  served_at BIGINT NOT NULL,
  stratum SMALLINT,
  share FLOAT,
  PRIMARY KEY (id)
);
CREATE INDEX serves_at ON serves (served_at);
CREATE INDEX serves_drawn ON serves (scope, served_at) WHERE share > 0;
CREATE INDEX serves_entry ON serves (entry_id);
CREATE INDEX serves_job ON serves (job_id);
CREATE TABLE uses (
  entry_id BIGINT NOT NULL,
  document_id BIGINT NOT NULL,
  sha256 VARCHAR(64) NOT NULL,
  PRIMARY KEY (entry_id, document_id)
);
CREATE INDEX uses_document ON uses (document_id);
CREATE TABLE audits (
  id VARCHAR(36) NOT NULL,
  kind VARCHAR(8) DEFAULT 'hit' NOT NULL,
  job_id VARCHAR(36) NOT NULL,
  entry_id BIGINT NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  scope VARCHAR(64) NOT NULL,
  similarity FLOAT NOT NULL,
  stratum SMALLINT NOT NULL,
  share FLOAT NOT NULL,
  served_at BIGINT NOT NULL,
  question TEXT,
  served TEXT,
  fresh TEXT,
  again TEXT,
  own VARCHAR(8),
  guard VARCHAR(32),
  label VARCHAR(8),
  labelled_by VARCHAR(128),
  labelled_at BIGINT,
  reason TEXT,
  judged BOOLEAN DEFAULT false NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX audits_entry ON audits (entry_id);
CREATE INDEX audits_scope ON audits (scope, served_at);
CREATE INDEX audits_served ON audits (served_at);
CREATE INDEX audits_unjudged ON audits (scope) WHERE audits.label IS NOT NULL AND NOT audits.judged;
CREATE INDEX audits_unknown ON audits (served_at) WHERE audits.label = 'unknown';
CREATE INDEX audits_waiting ON audits (scope) WHERE audits.label IS NULL;
CREATE TABLE standings (
  scope VARCHAR(64) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  state VARCHAR(16) NOT NULL,
  sentence TEXT NOT NULL,
  figures TEXT NOT NULL,
  since BIGINT DEFAULT 0 NOT NULL,
  changed_at BIGINT NOT NULL,
  serves_by VARCHAR(128),
  PRIMARY KEY (scope)
);
CREATE TABLE labels (
  id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  job_id VARCHAR(36) NOT NULL,
  kind VARCHAR(9) NOT NULL,
  about VARCHAR(128) NOT NULL,
  value FLOAT NOT NULL,
  who TEXT NOT NULL,
  said_at BIGINT NOT NULL,
  probability FLOAT,
  taken_at BIGINT NOT NULL,
  item VARCHAR(36),
  PRIMARY KEY (id)
);
CREATE INDEX labels_about ON labels (tenant, kind, about, job_id);
CREATE INDEX labels_of_items ON labels (item) WHERE item IS NOT NULL;
CREATE TABLE verdicts (
  job_id VARCHAR(36) NOT NULL,
  kind VARCHAR(9) NOT NULL,
  about VARCHAR(128) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  version VARCHAR(64),
  value FLOAT,
  probability FLOAT,
  judged_at BIGINT NOT NULL,
  PRIMARY KEY (job_id, kind, about)
);
CREATE INDEX verdicts_judged ON verdicts (judged_at);
CREATE TABLE pass_rates (
  tenant VARCHAR(64) NOT NULL,
  criterion VARCHAR(128) NOT NULL,
  version VARCHAR(64) NOT NULL,
  value FLOAT NOT NULL,
  low FLOAT NOT NULL,
  high FLOAT NOT NULL,
  level FLOAT NOT NULL,
  labels BIGINT NOT NULL,
  verdicts BIGINT NOT NULL,
  reason TEXT,
  computed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant, criterion, version)
);
CREATE TABLE webhook_endpoints (
  id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  origin VARCHAR(12) NOT NULL,
  name TEXT NOT NULL,
  url TEXT NOT NULL,
  events TEXT NOT NULL,
  whole BOOLEAN NOT NULL,
  secret TEXT,
  hint VARCHAR(16),
  old_secret TEXT,
  old_until BIGINT,
  failures INTEGER DEFAULT 0 NOT NULL,
  failing_since BIGINT,
  pauses SMALLINT DEFAULT 0 NOT NULL,
  paused_until BIGINT,
  disabled TEXT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX webhook_endpoints_listening ON webhook_endpoints (tenant) WHERE webhook_endpoints.origin = 'registered' AND webhook_endpoints.disabled IS NULL;
CREATE INDEX webhook_endpoints_tenant ON webhook_endpoints (tenant, created_at);
CREATE TABLE webhook_deliveries (
  id VARCHAR(36) NOT NULL,
  endpoint_id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  type VARCHAR(64) NOT NULL,
  subject VARCHAR(64) NOT NULL,
  url TEXT,
  body BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  attempts SMALLINT DEFAULT 0 NOT NULL,
  attempted_at BIGINT,
  status SMALLINT,
  ms INTEGER,
  error TEXT,
  answer TEXT,
  replayed_at BIGINT,
  PRIMARY KEY (id)
);
CREATE INDEX webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, created_at);
CREATE TABLE callbacks (
  job_id VARCHAR(36) NOT NULL,
  wish TEXT NOT NULL,
  PRIMARY KEY (job_id)
);
CREATE TABLE api_keys (
  id VARCHAR(16) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  scopes TEXT NOT NULL,
  digest VARCHAR(64) NOT NULL,
  made_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT,
  PRIMARY KEY (id)
);
CREATE TABLE quotas (
  tenant VARCHAR(64) NOT NULL,
  key_id VARCHAR(16) NOT NULL,
  unit VARCHAR(8) NOT NULL,
  period VARCHAR(8) NOT NULL,
  most BIGINT NOT NULL,
  began BIGINT NOT NULL,
  used BIGINT NOT NULL,
  reserved BIGINT NOT NULL,
  told SMALLINT NOT NULL,
  PRIMARY KEY (tenant, key_id, unit, period)
);
CREATE TABLE reservations (
  job_id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  key_id VARCHAR(16) NOT NULL,
  tokens BIGINT NOT NULL,
  money BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  digest VARCHAR(64),
  PRIMARY KEY (job_id)
);
CREATE INDEX reservations_waiting ON reservations (expires_at) WHERE reservations.expires_at < 4611686018427387904;
CREATE TABLE bounds_paid (
  job_id VARCHAR(36) NOT NULL,
  claim_id BIGINT NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  key_id VARCHAR(16) NOT NULL,
  paid_at BIGINT NOT NULL,
  PRIMARY KEY (job_id, claim_id)
);
CREATE TABLE allowed_providers (
  tenant VARCHAR(64) NOT NULL,
  provider VARCHAR(64) NOT NULL,
  allowed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant, provider)
);
CREATE TABLE usage_days (
  tenant VARCHAR(64) NOT NULL,
  day INTEGER NOT NULL,
  kind VARCHAR(16) NOT NULL,
  model VARCHAR(64) NOT NULL,
  application VARCHAR(96) NOT NULL,
  jobs BIGINT NOT NULL,
  prompt_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL,
  PRIMARY KEY (tenant, day, kind, model, application)
);
CREATE TABLE spend_days (
  tenant VARCHAR(64) NOT NULL,
  day INTEGER NOT NULL,
  model VARCHAR(64) NOT NULL,
  application VARCHAR(96) NOT NULL,
  currency VARCHAR(3) NOT NULL,
  calls BIGINT NOT NULL,
  amount BIGINT NOT NULL,
  unknown_calls BIGINT NOT NULL,
  bound BIGINT NOT NULL,
  PRIMARY KEY (tenant, day, model, application, currency)
);
CREATE TABLE traces_exported (
  what VARCHAR(8) NOT NULL,
  ended_at BIGINT NOT NULL,
  job_id VARCHAR(36) NOT NULL,
  PRIMARY KEY (what)
);
CREATE TABLE application_versions (
  scope VARCHAR(64) NOT NULL,
  name VARCHAR(64) NOT NULL,
  number INTEGER NOT NULL,
  digest VARCHAR(64) NOT NULL,
  definition TEXT NOT NULL,
  pushed_at BIGINT NOT NULL,
  pushed_by TEXT NOT NULL,
  PRIMARY KEY (scope, name, number),
  UNIQUE (scope, name, digest)
);
CREATE TABLE application_labels (
  scope VARCHAR(64) NOT NULL,
  name VARCHAR(64) NOT NULL,
  label VARCHAR(64) NOT NULL,
  number INTEGER NOT NULL,
  moved_at BIGINT NOT NULL,
  PRIMARY KEY (scope, name, label)
);
CREATE TABLE application_moves (
  id BIGSERIAL NOT NULL,
  scope VARCHAR(64) NOT NULL,
  name VARCHAR(64) NOT NULL,
  label VARCHAR(64) NOT NULL,
  from_number INTEGER,
  to_number INTEGER NOT NULL,
  who TEXT NOT NULL,
  at BIGINT NOT NULL,
  why TEXT,
  gate VARCHAR(16),
  PRIMARY KEY (id)
);
CREATE INDEX application_moves_name ON application_moves (scope, name, id);
CREATE TABLE application_tests (
  scope VARCHAR(64) NOT NULL,
  name VARCHAR(64) NOT NULL,
  number INTEGER NOT NULL,
  at BIGINT NOT NULL,
  passed BOOLEAN NOT NULL,
  models TEXT NOT NULL,
  report TEXT NOT NULL,
  PRIMARY KEY (scope, name, number)
);
CREATE TABLE review_rules (
  scope VARCHAR(64) NOT NULL,
  digest VARCHAR(64) NOT NULL,
  rules TEXT NOT NULL,
  set_at BIGINT NOT NULL,
  refused TEXT,
  PRIMARY KEY (scope)
);
CREATE TABLE review_items (
  id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  job_id VARCHAR(36) NOT NULL,
  rule VARCHAR(64) NOT NULL,
  stage VARCHAR(32),
  ordinal SMALLINT NOT NULL,
  replays SMALLINT NOT NULL,
  application VARCHAR(96),
  rank BIGINT NOT NULL,
  probability FLOAT NOT NULL,
  wanted SMALLINT NOT NULL,
  decided SMALLINT DEFAULT 0 NOT NULL,
  state VARCHAR(8) NOT NULL,
  reason TEXT,
  made_at BIGINT NOT NULL,
  ended_at BIGINT,
  PRIMARY KEY (id)
);
CREATE INDEX review_items_held ON review_items (id) WHERE review_items.state = 'open' AND review_items.stage IS NOT NULL;
CREATE INDEX review_items_job ON review_items (job_id);
CREATE INDEX review_items_made ON review_items (tenant, made_at, id);
CREATE INDEX review_items_of_rules ON review_items (tenant, rule, rank, id) WHERE review_items.state = 'open';
CREATE INDEX review_items_open ON review_items (tenant, rank, id) WHERE review_items.state = 'open';
CREATE INDEX review_items_unasked ON review_items (ended_at) WHERE review_items.state = 'gone' AND review_items.decided = 0;
CREATE TABLE review_counts (
  tenant VARCHAR(64) NOT NULL,
  rule VARCHAR(64) NOT NULL,
  day INTEGER NOT NULL,
  seen BIGINT NOT NULL,
  drawn BIGINT NOT NULL,
  overflow BIGINT NOT NULL,
  PRIMARY KEY (tenant, rule, day)
);
CREATE TABLE review_assignments (
  item_id VARCHAR(36) NOT NULL,
  who VARCHAR(256) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  lease BIGINT NOT NULL,
  state VARCHAR(8) NOT NULL,
  until BIGINT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (item_id, who)
);
CREATE INDEX review_assignments_leased ON review_assignments (item_id, until) WHERE review_assignments.state = 'leased';
CREATE INDEX review_assignments_leased_to ON review_assignments (tenant, who, until) WHERE review_assignments.state = 'leased';
CREATE INDEX review_assignments_who ON review_assignments (tenant, who, at);
CREATE TABLE review_decisions (
  number BIGSERIAL NOT NULL,
  item_id VARCHAR(36) NOT NULL,
  who VARCHAR(256) NOT NULL,
  revision SMALLINT NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  job_id VARCHAR(36) NOT NULL,
  lease BIGINT NOT NULL,
  key_id VARCHAR(16) NOT NULL,
  action VARCHAR(8) NOT NULL,
  decision TEXT NOT NULL,
  example BYTEA,
  decided_at BIGINT NOT NULL,
  PRIMARY KEY (number)
);
CREATE UNIQUE INDEX review_decisions_item ON review_decisions (item_id, who, revision);
CREATE INDEX review_decisions_tenant ON review_decisions (tenant, number);
CREATE TABLE tuning_runs (
  number BIGSERIAL NOT NULL,
  job_id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  model VARCHAR(64) NOT NULL,
  training_file VARCHAR(64) NOT NULL,
  validation_file VARCHAR(64),
  job TEXT NOT NULL,
  state VARCHAR(16) NOT NULL,
  created_at BIGINT NOT NULL,
  finished_at BIGINT,
  estimated_finish BIGINT,
  error TEXT,
  trained_tokens BIGINT,
  aliases TEXT,
  result_file VARCHAR(64),
  last_event INTEGER DEFAULT 0 NOT NULL,
  PRIMARY KEY (number),
  UNIQUE (job_id)
);
CREATE INDEX tuning_runs_open ON tuning_runs (model) WHERE tuning_runs.finished_at IS NULL;
CREATE INDEX tuning_runs_tenant ON tuning_runs (tenant, number);
CREATE TABLE tuning_events (
  run BIGINT NOT NULL,
  number INTEGER NOT NULL,
  at BIGINT NOT NULL,
  level VARCHAR(8) NOT NULL,
  message TEXT NOT NULL,
  data TEXT,
  PRIMARY KEY (run, number)
);
CREATE TABLE tuning_checkpoints (
  run BIGINT NOT NULL,
  step INTEGER NOT NULL,
  at BIGINT NOT NULL,
  uri TEXT NOT NULL,
  sha256 VARCHAR(64) NOT NULL,
  metrics TEXT NOT NULL,
  PRIMARY KEY (run, step)
);
CREATE TABLE console_ended_jobs (
  job_id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  ended_at BIGINT NOT NULL,
  PRIMARY KEY (job_id)
);
CREATE INDEX console_ended_jobs_of_tenant ON console_ended_jobs (tenant, ended_at);
CREATE TABLE console_plans (
  id VARCHAR(36) NOT NULL,
  tenant VARCHAR(64) NOT NULL,
  key_id VARCHAR(16) NOT NULL,
  who TEXT NOT NULL,
  act VARCHAR(8) NOT NULL,
  everywhere BOOLEAN NOT NULL,
  filter TEXT NOT NULL,
  items TEXT NOT NULL,
  size INTEGER NOT NULL,
  more BOOLEAN NOT NULL,
  state VARCHAR(8) NOT NULL,
  reason TEXT NOT NULL,
  place INTEGER NOT NULL,
  done INTEGER NOT NULL,
  cut INTEGER NOT NULL,
  at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX console_plans_expired ON console_plans (expires_at);
CREATE TABLE console_tokens (
  digest VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  key_id VARCHAR(16) NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at BIGINT,
  PRIMARY KEY (digest)
);
CREATE TABLE console_sessions (
  digest VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  key_id VARCHAR(16) NOT NULL,
  run VARCHAR(64) NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (digest)
);
CREATE INDEX console_sessions_expired ON console_sessions (expires_at);
INSERT INTO identity (id) VALUES (gen_random_uuid()::text);
