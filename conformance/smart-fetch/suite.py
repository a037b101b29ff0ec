"""What smart-fetch, the bulk data client of SMART's own authors, gets of a running server as a backend service.

It signs in with a key, exports, is killed and goes on, takes an export back, and gets what the exchange reads by search: no more, no less.
"""

import glob
import gzip
import json
import os
import signal
import subprocess
import sys
import time

import httpx
from jwcrypto import jwk

BASE, BINARY, WORK = (os.environ["CLOISTER_" + x] for x in ("BASE", "BINARY", "SUITE_DATA"))
with open(os.environ["CLOISTER_PERSONAS"]) as f:
    TOKENS = json.load(f)
CLIENT = os.path.join(os.path.dirname(sys.executable), "smart-fetch")
LOINC, SYSTEM = "http://loinc.org", "https://example.org/conformance"
RUN = f"smart-fetch-{int(time.time() * 1000)}"

passed = failed = 0


def check(what, got, want=True):
    global passed, failed
    good = want(got) if callable(want) else got == want
    passed, failed = passed + good, failed + (not good)
    print(("ok - " if good else "not ok - ") + what + ("" if good else f": {got!r}" + ("" if callable(want) else f", expected {want!r}")))


def same(what, got, want):
    """As check, for many: tells how many are missing or too much, and some of them."""
    missing, more = sorted(set(want) - set(got)), sorted(x for x in set(got) if x not in want or got.count(x) > 1)
    check(what, (len(missing), len(more), (missing + more)[:3]), (0, 0, []))


def cloister(*args):
    done = subprocess.run([BINARY, *args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"cloister {' '.join(args[:2])}: {done.stdout}{done.stderr}")


# --- the server as its personas know it ----------------------------------------------
def api(who, method, url, **more):
    return httpx.request(method, url if url.startswith("http") else f"{BASE}/{url}", headers={"Authorization": f"Bearer {TOKENS[who]}", **more.pop("headers", {})}, timeout=60, **more)


def found(who, query):
    """The ids of all matches of a search, page by page."""
    ids, url = set(), f"{query}{'&' if '?' in query else '?'}_count=100"
    while url:
        page = api(who, "GET", url).raise_for_status().json()
        ids |= {e["resource"]["id"] for e in page.get("entry", []) if e["search"]["mode"] == "match"}
        url = next((x["url"] for x in page["link"] if x["relation"] == "next"), None)
    return ids


def create(who, resource):
    return api(who, "POST", resource["resourceType"], json=resource).raise_for_status().headers["Location"].split("/")[-3]


def observation(patient, code):
    return {"resourceType": "Observation", "status": "final", "subject": {"reference": f"Patient/{patient}"}, "effectiveDateTime": "2026-01-05", "code": {"coding": [{"system": SYSTEM, "code": code}]},
            "identifier": [{"system": SYSTEM, "value": f"{RUN}-{code}"}], "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "survey"}]}]}


# --- the client --------------------------------------------------------------------------
def key(name):
    made = jwk.JWK.generate(kty="EC", crv="P-384", kid=name, alg="ES384", use="sig")
    for kind, text in (("private", made.export()), ("public", made.export_public())):
        with open(os.path.join(WORK, f"{name}.{kind}.jwks"), "w") as f:
            json.dump({"keys": [json.loads(text) | ({"key_ops": ["sign"]} if kind == "private" else {})]}, f)


def service(name, *more):
    """A backend service of the exchange's organization, registered and approved as docs/smart.md says."""
    key(name)
    middle = TOKENS["hie"].split(".")[1]
    claims = json.loads(jwk.base64url_decode(middle))
    cloister("app", "register", name, "--name", name, "--backend", "--auth", "private_key_jwt", "--jwks", os.path.join(WORK, f"{name}.public.jwks"), "--scope", "system/*.rs", "--purpose", claims["purpose_of_use"],
             "--role", claims["roles"][0], "--organization", claims["organizations"][0], *more)
    cloister("app", "approve", name, "--practice", claims["practice"])


def command(how, out, *args, name="fetch", signs="fetch", token=None):
    proof = ["--bearer-token", token] if token else ["--smart-client-id", name, "--smart-key", os.path.join(WORK, f"{signs}.private.jwks")]
    return [CLIENT, how, "--fhir-url", BASE, *proof, *args, os.path.join(WORK, out)]


def fetch(how, out, *args, **who):
    done = subprocess.run(command(how, out, *args, **who), capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def well(what, *args, **who):
    status, told = fetch(*args, **who)
    check(what + " ends well", (status, told[-300:]), lambda done: done[0] == 0)
    return told


def got(out, kind="[A-Z]*"):
    """What lies in the folder: the ids of each type, and all of its text."""
    ids, text = {}, ""
    for path in glob.glob(os.path.join(WORK, out, f"{kind}.*ndjson.gz")):
        with gzip.open(path, "rt") as f:
            for line in f:
                text += line
                resource = json.loads(line)
                ids.setdefault(resource["resourceType"], []).append(resource["id"])
    return ids, text


def events(out):
    with open(os.path.join(WORK, out, "log.ndjson")) as f:
        return [json.loads(line) for line in f]


def killed_after_kickoff(out, *args):
    """Starts an export and kills the client with kill -9 once the server has taken it; gives the export."""
    with subprocess.Popen(command("bulk", out, *args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
        try:
            for _ in range(600):
                try:
                    with open(os.path.join(WORK, out, ".metadata")) as f:
                        return json.load(f)["bulk-status"]
                except (OSError, KeyError, ValueError):
                    time.sleep(0.05)
        finally:
            p.send_signal(signal.SIGKILL)
    raise RuntimeError("the export was not taken")


# --- what is asked ---------------------------------------------------------------------
nora = found("therapist", "Patient?name=Bergstrom").pop()
note = create("therapist", {
    "resourceType": "DocumentReference", "status": "current", "subject": {"reference": f"Patient/{nora}"},
    "author": [{"reference": json.loads(jwk.base64url_decode(TOKENS["therapist"].split(".")[1]))["fhirUser"]}],
    "type": {"coding": [{"system": "https://cloister.health/fhir/CodeSystem/note-kind", "code": "psychotherapy-note"}]},
    "content": [{"attachment": {"contentType": "text/plain", "title": f"{RUN}-canary"}}]})
service("fetch")


def everything():
    """All types that the client asks for by itself: each is what the exchange reads by search, once."""
    told = well("an export", "bulk", "all", "--no-default-filters")
    ids, text = got("all")
    kinds = ["AllergyIntolerance", "Condition", "Device", "DiagnosticReport", "DocumentReference", "Encounter", "EpisodeOfCare", "Immunization", "MedicationDispense", "MedicationRequest", "Observation", "Patient", "Procedure",
             "ServiceRequest", "Specimen"]
    for kind in kinds:
        same(f"{kind}: what the exchange reads by search, each once", ids.get(kind, []), found("hie", kind))
    check("there is something of each that there should be", [k for k in ("Condition", "DocumentReference", "Encounter", "MedicationRequest", "Observation", "Patient") if not ids.get(k)], [])
    check("types that were not asked for are not there", sorted(set(ids) - set(kinds)), [])
    mine = found("therapist", "DocumentReference")
    check("the psychotherapy note is its author's", note in mine)
    check("and leaves in no export", f"{RUN}-canary" in text or note in ids["DocumentReference"], False)
    hidden = found("sud-counselor", "Condition") - found("hie", "Condition")
    check("records of the program without the patient's consent exist", len(hidden), lambda n: n > 0)
    check("and leave in no export", sorted(hidden & set(ids["Condition"])), [])
    check("the client tells its user of the consents by which records came", "42 CFR 2.33" in " ".join(told.split()))
    with_notice = [json.loads(line) for line in text.splitlines() if "NORDSCLCD" in line]
    check("records of the program carry the prohibition on redisclosure", len(with_notice), lambda n: n > 0)


def narrowed():
    code = f"{LOINC}|44261-6"
    well("an export with a type filter", "bulk", "phq9", "--type", "Observation", "--type-filter", f"Observation?code={code}")
    same("its matches are what the search finds", got("phq9")[0].get("Observation", []), found("hie", f"Observation?code={code}"))


def panel():
    """The Group that the practice keeps for the exchange."""
    group = found("hie", "Group").pop()
    members = [m["entity"]["reference"].split("/")[1] for m in api("hie", "GET", f"Group/{group}").json()["member"]]
    status, told = fetch("bulk", "panel-refused", "--group", group)
    check("a token without a scope for Groups exports none", (status != 0, "[403]" in told), (True, True))
    token = os.path.join(WORK, "token")
    with open(token, "w") as f:
        f.write(TOKENS["hie"])
    well("an export of a Group", "bulk", "panel", "--group", group, "--no-default-filters", token=token)
    ids, _ = got("panel")
    same("its patients are the members", ids.get("Patient", []), members)
    for kind in ("Condition", "Observation", "Encounter"):
        same(f"{kind}: what the exchange finds of the members", ids.get(kind, []), found("hie", f"{kind}?patient={','.join(members)}"))


def changed():
    """An export since the last one holds what was written in between, and nothing else."""
    began = next(e for e in events("all") if e["eventId"] == "status_complete")["eventDetail"]["transactionTime"]
    written = create("therapist", observation(nora, "since"))
    well("an export since the last one", "bulk", "since", "--since", began, "--since-mode", "updated", "--type", "Observation", "--no-default-filters")
    check("it holds what was written in between", got("since")[0], {"Observation": [written]})


def interrupted():
    export = killed_after_kickoff("resumed", "--no-default-filters")
    well("the export of a client that was killed", "bulk", "resumed", "--no-default-filters")
    check("with the export that it had begun", {e["exportId"] for e in events("resumed")}, {export})
    check("and began no other", sum(e["eventId"] == "kickoff" for e in events("resumed")), 1)
    again = {k: sorted(v) for k, v in got("resumed")[0].items()}
    check("it gets each resource once", {k: v for k, v in again.items() if k != "Observation"}, {k: sorted(v) for k, v in got("all")[0].items() if k != "Observation"})


def taken_back():
    export = killed_after_kickoff("cancelled")
    well("taking an export back", "bulk", "cancelled", "--cancel")
    status, told = fetch("bulk", "cancelled")
    check("what is taken back is gone for its client", (status != 0, "404" in told), (True, True))
    check("as it never was for others", api("hie", "GET", export).status_code, 404)


def crawled():
    """The same by search in place of an export, as the client does where a server has no exports."""
    well("a crawl", "crawl", "crawl", "--type", "Patient,Condition,Observation,DocumentReference", "--no-default-filters")
    for kind in ("Patient", "Condition", "Observation", "DocumentReference"):
        same(f"a crawl finds {kind} as a search does", got("crawl", kind)[0].get(kind, []), found("hie", kind))


def managed():
    """An export with what it refers to: practitioners, organizations, places, medications."""
    well("a managed export", "export", "managed", "--type", "Patient,Encounter,MedicationRequest")
    ids, _ = got("managed")
    check("practitioners and organizations are fetched by reference", [k for k in ("Practitioner", "Organization") if not ids.get(k)], [])
    for kind in ("Practitioner", "Organization"):
        check(f"{kind}: all that came are visible", sorted(set(ids[kind]) - found("hie", kind)), [])


def refused():
    key("stranger")
    status, told = fetch("bulk", "stranger", signs="stranger")
    check("another's key opens nothing", (status != 0, "the app is not known, or did not prove who it is" in told), (True, True))
    check("and nothing is in its folder", got("stranger")[0], {})
    cloister("app", "register", "waiting", "--name", "Waiting", "--backend", "--auth", "private_key_jwt", "--jwks", os.path.join(WORK, "fetch.public.jwks"), "--scope", "system/*.rs", "--purpose", "TREAT", "--role", "hie")
    check("an app that no practice has approved opens nothing", fetch("bulk", "waiting", name="waiting")[0] != 0)


def released():
    """A service that is registered with a release profile gets releases without knowing."""
    service("registry", "--release-profile", "safe-harbor")
    well("the export of a service with a release profile", "bulk", "release", "--type", "Patient,Condition,Encounter", "--no-default-filters", name="registry", signs="registry")
    ids, text = got("release")
    check("it gets patients and their records", sorted(k for k, v in ids.items() if v), ["Condition", "Encounter", "Patient"])
    all_ids, _ = got("all")
    check("under ids that nobody knows", [k for k, v in ids.items() if set(v) & set(all_ids.get(k, []))], [])
    names = {n["family"] for e in api("hie", "GET", "Patient?_count=100").json()["entry"] for n in e["resource"].get("name", [])}
    check("without their names", (len(names) > 0, [n for n in names if n in text]), (True, []))
    check("and a search is not for it", fetch("crawl", "release-crawl", "--type", "Condition", name="registry", signs="registry")[0] != 0 or got("release-crawl")[0], lambda x: x is True or x == {})


for part in (everything, narrowed, panel, changed, interrupted, taken_back, crawled, managed, refused, released):
    try:
        part()
    except Exception as e:  # the others are still asked
        check(f"{part.__name__}: {type(e).__name__} {' '.join(str(e).split())}", False)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
