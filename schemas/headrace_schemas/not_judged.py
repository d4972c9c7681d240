"""Reasons why a criterion gave no value, as codes to count by. The text beside a code says more, and may change."""

from enum import StrEnum


class NotJudged(StrEnum):
    """The kind of reason why a score has no value. It is never a 0: nobody looked, or nobody could tell."""

    BLOCKED = "blocked"  # moderation withheld the output
    NO_REFERENCE = "no_reference"  # the job gave none to compare with
    NO_OTHER = "no_other"  # the job gave no other output to compare with
    NO_CONTEXT = "no_context"  # the job gave none to look it up in
    NO_PASSAGES = "no_passages"  # none was given to the model
    NO_WORKER = "no_worker"  # nobody that can look it up runs
    NOTHING_SAID = "nothing_said"  # the output holds nothing that this criterion could look at
    NO_MODEL = "no_model"  # none judges here
    OTHER_MODEL = "other_model"  # another one judges here than the criterion names
    UNTRUSTED = "untrusted"  # the model failed its probe as a judge
    UNANSWERED = "unanswered"  # the model did not answer in the permitted words
    ORDER = "order"  # the verdict changes with the order in which two outputs are shown
    WRONG_SCALE = "wrong_scale"  # the model's tokens do not tell the scale's answers apart
    TOO_LONG = "too_long"  # it does not fit into the model's context
    TOO_DEEP = "too_deep"  # a document nested too deeply to be checked
    BAD_PATTERN = "bad_pattern"  # no RE2 regular expression
    BAD_SCHEMA = "bad_schema"  # no JSON Schema that can be used
    NOT_COVERED = "not_covered"  # what is asked for is not known here
    UNSURE = "unsure"  # there is too little to tell by
    NOT_SAMPLED = "not_sampled"  # a share is judged, and this job is not among it
    NOT_ALLOWED = "not_allowed"  # the tenant does not allow the judge's provider to see its texts
    FAILED = "failed"  # trouble lasted until no attempt or no time was left
