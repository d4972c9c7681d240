"""HTTP, without any resource: authentication, errors, paging, limits, waiting. `headrace gateway` serves it.

To add a resource: a file with a `router` (an `APIRouter`) in its feature's `api/`, and its line in the feature's
`feature.py`. A route says what it needs in its signature, and everything else is reached from there:

    router = APIRouter(tags=["things"])

    @router.get("/v1/things/{thing_id}")
    async def show(thing_id: str, caller: Annotated[Caller, needs(JOBS_READ)], services: Wired) -> Response:
        thing = await services.ask(services.ledger.thing, caller.tenant, thing_id)   # on a thread, bounded; else 503
        if thing is None:
            raise Refusal(Why.NOT_FOUND, f"there is no thing {thing_id}")

- `caller.tenant` is whose request it is. Ask for rows by it, so that another tenant's are not there (404).
- Errors are raised, `Refusal` or any HeadraceError, and told in the shape of the path's family: OpenAI's, or for the
  paths in `errors.NATIVE` problem+json.
- A body of JSON is read by `await json_object(request)`: bounded in bytes, before anybody reads it, and in depth.
  Paths that take more than `GatewaySettings.max_body` name their own bound in `bodies.BODY_BYTES`.
- `await services.admission.submit(caller, jobs)` admits jobs. generation's `ends_of(...)` waits for their
  ends, and cancels them when the client hangs up. `services.waiter.ends(...)` waits alone.
- A feature's own part is `services.of(ItsClass)`.
- A route of high traffic has the `route_class` `fast_route(Scope.…)`, which bypasses FastAPI: `FastRoute` in
  routes.py says what its endpoint may take.
- A path parameter's name joins `OTHERS` in `tests/workers/http/test_tenants.py`, which walks every route.
"""
