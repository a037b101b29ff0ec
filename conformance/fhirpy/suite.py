"""What fhirpy expects of a server, asked of a running one."""

import asyncio
import base64
import json
import os
import sys
import time

from fhirpy import AsyncFHIRClient, SyncFHIRClient
from fhirpy.base.exceptions import (
    AuthorizationError,
    ForbiddenError,
    MultipleResourcesFound,
    OperationOutcome,
    ResourceNotFound,
)

BASE = os.environ["CLOISTER_BASE"]
with open(os.environ["CLOISTER_PERSONAS"]) as f:
    TOKENS = json.load(f)
SYSTEM = "https://example.org/conformance"
RUN = f"fhirpy-{int(time.time() * 1000)}"
PAGES = f"{RUN}-pages"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}


def client(who, **headers):
    return SyncFHIRClient(BASE, authorization=f"Bearer {TOKENS[who]}", extra_headers={k.replace("_", "-"): v for k, v in headers.items()})


def claims(token):
    middle = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))


therapist, colleague = client("therapist"), client("colleague")
nora = therapist.resources("Patient").search(name="Bergstrom").get()
SUBJECT = {"reference": f"Patient/{nora.id}"}


def observation(key, **more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "identifier": [{"system": SYSTEM, "value": f"{RUN}-{key}"}],
        "code": {"coding": [{"system": SYSTEM, "code": RUN}]},
        "subject": SUBJECT,
        "effectiveDateTime": "2026-01-05",
        **more,
    }


def made_of(key, of=therapist, **more):
    return of.resource("Observation", **{k: v for k, v in observation(key, **more).items() if k != "resourceType"})


def create(key, of=therapist, **more):
    return made_of(key, of, **more).save()


def note(key):
    return therapist.resource(
        "DocumentReference",
        status="current",
        subject=SUBJECT,
        author=[{"reference": claims(TOKENS["therapist"])["fhirUser"]}],
        identifier=[{"system": SYSTEM, "value": f"{RUN}-{key}"}],
        type={"coding": [{"system": "https://cloister.health/fhir/CodeSystem/note-kind", "code": "psychotherapy-note"}]},
        content=[{"attachment": {"contentType": "text/plain", "data": "eA=="}}],
    ).save()


def identified(key, kind="Observation", of=therapist):
    return of.resources(kind).search(identifier=f"{SYSTEM}|{RUN}-{key}")


def refused(kind, code, call):
    """Fails unless call raises kind with an OperationOutcome of that code; gives the outcome."""
    try:
        got = call()
    except kind as e:
        outcome = getattr(e, "resource", None) or json.loads(str(e))
        assert outcome["resourceType"] == "OperationOutcome", outcome
        assert code is None or outcome["issue"][0]["code"] == code, outcome
        return outcome
    raise AssertionError(f"succeeded with {str(got)[:100]}, want {kind.__name__}")


def capability_statement():
    assert therapist.execute("metadata", method="get")["fhirVersion"] == "4.0.1"


def create_read_vread_update_refresh():
    made = create("crud")
    assert made.id and made["meta"]["versionId"] == "1"
    read = therapist.reference("Observation", made.id).to_resource()
    assert read == made
    read["status"] = "amended"
    read.save()
    assert read["meta"]["versionId"] == "2"
    made.refresh()
    assert made["status"] == "amended"
    assert therapist.execute(f"Observation/{made.id}/_history/1", method="get")["status"] == "final"
    refused(ResourceNotFound, "not-found", lambda: therapist.execute(f"Observation/{made.id}/_history/9", method="get"))


def update_with_if_match():
    made = create("match")
    put = lambda v: client("therapist", If_Match=f'W/"{v}"').execute(f"Observation/{made.id}", method="put", data=made.serialize())
    assert put(1)["meta"]["versionId"] == "2"
    refused(MultipleResourcesFound, "conflict", lambda: put(1))  # its name for every 412


def update_as_create():
    made = create("own", id=RUN)
    assert made.id == RUN and made["meta"]["versionId"] == "1"


def json_patch():
    made = create("patch")
    at = f"Observation/{made.id}"
    patching = client("therapist", **JSON_PATCH)
    patch = lambda *ops: patching.execute(at, method="patch", data=list(ops))
    replace = lambda v: {"op": "replace", "path": "/status", "value": v}
    assert patch({"op": "test", "path": "/status", "value": "final"}, replace("amended"))["status"] == "amended"
    refused(OperationOutcome, None, lambda: patch(replace("wrong")))
    stale = client("therapist", If_Match='W/"1"', **JSON_PATCH)
    refused(MultipleResourcesFound, "conflict", lambda: stale.execute(at, method="patch", data=[replace("final")]))
    made.refresh()
    assert made["meta"]["versionId"] == "2"


def merge_patch_is_refused():
    """fhirpy's own patch() sends a part of the resource as application/json, which is none of R4's patches."""
    made = create("merge")
    refused(OperationOutcome, None, lambda: therapist.patch("Observation", made.id, status="amended"))
    made.refresh()
    assert made["meta"]["versionId"] == "1"


def conditional_create():
    once = client("therapist", If_None_Exist=f"identifier={SYSTEM}|{RUN}-once")
    first, again = create("once", of=once), create("once", of=once)
    assert first.id == again.id
    assert len(identified("once").fetch()) == 1
    create("once")
    refused(MultipleResourcesFound, None, lambda: create("once", of=once))


def conditional_update():
    made, new = identified("upsert").update(made_of("upsert"))
    assert new
    changed, new = identified("upsert").update(made_of("upsert", status="amended"))
    assert not new and changed.id == made.id and changed["meta"]["versionId"] == "2"
    create("upsert")
    refused(MultipleResourcesFound, None, lambda: identified("upsert").update(changed))


def conditional_delete():
    kept = note("conditional")
    identified("conditional", "DocumentReference").delete()
    refused(ResourceNotFound, "deleted", lambda: therapist.get("DocumentReference", kept.id))


def delete_and_history():
    gone = note("gone")
    gone.delete()
    refused(ResourceNotFound, "deleted", gone.refresh)
    h = therapist.execute(f"DocumentReference/{gone.id}/_history", method="get")
    assert [e["request"]["method"] for e in h["entry"]] == ["DELETE", "POST"]


def history_of_instance_type_and_system():
    made = create("history")
    made["status"] = "amended"
    made.save()
    for at in (f"Observation/{made.id}/_history", "Observation/_history", "_history"):
        h = therapist.execute(at, method="get")
        assert h["type"] == "history"
        versions = [e["resource"]["meta"]["versionId"] for e in h["entry"] if e.get("resource", {}).get("id") == made.id]
        assert versions == ["2", "1"], (at, versions)


def days(found):
    return "".join(r["effectiveDateTime"][-1] for r in found)


def paged():
    return therapist.resources("Observation").search(code=PAGES)


def search_through_all_pages():
    assert days(paged().sort("date").limit(2).fetch_all()) == "12345"
    assert days(paged().sort("-date").limit(2)) == "54321"


def search_through_all_pages_async():
    async def every():
        c = AsyncFHIRClient(BASE, authorization=f"Bearer {TOKENS['therapist']}")
        return await c.resources("Observation").search(code=PAGES).sort("date").limit(2).fetch_all()

    assert days(asyncio.run(every())) == "12345"


def search_parameters():
    assert days(paged().search(date__ge="2026-01-03").sort("date").fetch()) == "345"
    assert days(paged().search(date__gt="2026-01-01", date__lt="2026-01-04").sort("date").fetch()) == "23"
    assert days(paged().search(date="2026-01-02,2026-01-05").sort("date").fetch()) == "25"
    assert days(paged().search(date=["2026-01-02", "2026-01-05"]).fetch()) == ""
    assert days(paged().search(status__not="final").fetch()) == ""
    assert days(paged().search(value_string__missing=True).sort("date").fetch()) == "12345"
    assert paged().first()["resourceType"] == "Observation"
    assert paged().search(subject__Patient__family="Bergstrom").fetch()
    assert not paged().search(subject__Patient__family="Reyes").fetch()
    assert therapist.resources("Patient").has("Observation", "patient", code=PAGES).get().id == nora.id
    refused(OperationOutcome, None, lambda: therapist.resources("Patient").search(colour="red").fetch())


def count():
    # It sends a parameter of its own beside _count=0, so it asks for lenience.
    lenient = client("therapist", Prefer="handling=lenient")
    assert lenient.resources("Observation").search(code=PAGES).count() == 5


def elements():
    (first, *_) = paged().elements("status").fetch()
    assert first["status"] == "final" and "effectiveDateTime" not in first


def include_and_revinclude():
    b = paged().limit(1).include("Observation", "patient").fetch_raw()
    assert [(e["resource"]["resourceType"], e["search"]["mode"]) for e in b["entry"]] == [("Observation", "match"), ("Patient", "include")]
    b = therapist.resources("Patient").search(_id=nora.id).revinclude("Coverage", "beneficiary").fetch_raw()
    assert b["entry"][0]["resource"]["id"] == nora.id and b["entry"][0]["search"]["mode"] == "match"


def bundle(kind, *entry):
    return therapist.execute("", method="post", data={"resourceType": "Bundle", "type": kind, "entry": list(entry)})


def post(resource):
    return {"request": {"method": "POST", "url": resource["resourceType"]}, "resource": resource}


def transaction_and_batch():
    done = bundle("transaction", post(observation("transaction")), {"request": {"method": "GET", "url": f"Patient/{nora.id}"}})
    assert [e["response"]["status"][:3] for e in done["entry"]] == ["201", "200"]
    bad = {"resourceType": "Observation"}
    refused(OperationOutcome, None, lambda: bundle("transaction", post(observation("rolled-back")), post(bad)))
    assert identified("rolled-back").fetch() == []
    each = bundle("batch", post(observation("batch")), post(bad))
    assert [e["response"]["status"][:3] for e in each["entry"]] == ["201", "422"]


def everything_validate_meta():
    b = nora.execute("$everything", method="get", params={"_count": 50})
    assert b["type"] == "searchset" and len(b["entry"]) > 5
    assert made_of("x").is_valid()
    assert not therapist.resource("Observation", status="wrong").is_valid()
    assert nora.execute("$meta", method="get")["parameter"][0]["name"] == "return"


def refusals_are_operation_outcomes():
    refused(ResourceNotFound, "not-found", lambda: therapist.get("Patient", "there-is-none"))
    refused(OperationOutcome, None, lambda: therapist.resource("Observation", status="wrong").save())
    refused(AuthorizationError, "login", lambda: SyncFHIRClient(BASE).get("Patient", nora.id))
    refused(AuthorizationError, "login", lambda: SyncFHIRClient(BASE, authorization="Bearer x.y.z").get("Patient", nora.id))
    refused(ForbiddenError, "forbidden", lambda: client("front-desk").resources("DocumentReference").fetch())


def two_callers_two_answers():
    mine = therapist.resources("DocumentReference").search(patient=nora.id).fetch_all()
    (kept, *_) = [r for r in mine if any(c["code"] == "psychotherapy-note" for c in r["type"]["coding"])]
    assert colleague.resources("DocumentReference").search(patient=nora.id).fetch_all() == []
    hidden = refused(ResourceNotFound, "not-found", lambda: colleague.get("DocumentReference", kept.id))
    absent = refused(ResourceNotFound, "not-found", lambda: colleague.get("DocumentReference", "there-is-none"))
    assert hidden == absent
    others = client("psychiatrist").resources("DocumentReference").search(patient=nora.id).fetch_all()
    assert others and kept.id not in [r.id for r in others]


CHECKS = [
    capability_statement, create_read_vread_update_refresh, update_with_if_match, update_as_create, json_patch, merge_patch_is_refused,
    conditional_create, conditional_update, conditional_delete, delete_and_history, history_of_instance_type_and_system,
    search_through_all_pages, search_through_all_pages_async, search_parameters, count, elements, include_and_revinclude,
    transaction_and_batch, everything_validate_meta, refusals_are_operation_outcomes, two_callers_two_answers,
]


def main():
    for n in (3, 1, 5, 2, 4):
        create(f"page-{n}", code={"coding": [{"system": SYSTEM, "code": PAGES}]}, effectiveDateTime=f"2026-01-0{n}")
    failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            check()
        except Exception as e:  # whatever it is, the others still run
            failed += 1
            print(f"not ok - {name}: {type(e).__name__} {' '.join(str(e).split())}")
        else:
            print(f"ok - {name}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
