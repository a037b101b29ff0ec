"""A de-identified release, measured and read by tools that know nothing of Cloister.

pycanon tells how well its patients are hidden among each other, DuckDB and Spark read the files. What Spark counts in
the resources is what the views say.
"""

import json
import os
import random
import subprocess
import sys
import time
import urllib.request

import duckdb
from pycanon import anonymity
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

BINARY, DATABASE, WORK = (os.environ["CLOISTER_" + x] for x in ("BINARY", "DATABASE_URL", "SUITE_DATA"))
BASE = os.environ["CLOISTER_BASE"]
with open(os.environ["CLOISTER_PERSONAS"]) as f:
    TOKEN = json.load(f)["hie"]
LEAST = 11
LOINC, ICD = "http://loinc.org", "http://hl7.org/fhir/sid/icd-10-cm"
RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"

passed = failed = 0


def check(what, got, want=True):
    global passed, failed
    good = want(got) if callable(want) else got == want
    passed, failed = passed + good, failed + (not good)
    print(("ok - " if good else "not ok - ") + what + ("" if good else f": {got!r}" + ("" if callable(want) else f", expected {want!r}")))


def cloister(*args):
    done = subprocess.run([BINARY, *args], capture_output=True, text=True, env={**os.environ, "CLOISTER_DATABASE_URL": DATABASE}, cwd=WORK)
    if done.returncode:
        sys.exit(f"cloister {args[0]}: {done.stdout}{done.stderr}")


def town(path, people=400):
    """Patients who are unlike enough for some to stand alone, with diagnoses of which some are rare."""
    dice = random.Random(11)
    with open(path, "w") as f:
        for i in range(people):
            race = dice.choices(["2106-3", "2054-5", "2028-9", "1002-5"], [70, 20, 8, 2])[0]
            place = dice.choices([("NY", "12180"), ("NY", "12207"), ("MA", "01103"), ("VT", "05001")], [50, 25, 20, 5])[0]
            born = f"{dice.randint(1945, 2007)}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}"
            lines = [{
                "resourceType": "Patient", "id": f"p{i}", "gender": dice.choice(["female", "male"]), "birthDate": born,
                "name": [{"family": f"Canary{i}"}], "address": [{"line": [f"Canary{i} Street"], "city": "Canarytown", "state": place[0], "postalCode": place[1]}],
                "extension": [{"url": RACE, "extension": [{"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": race}}, {"url": "text", "valueString": f"Canary{i}"}]}],
            }]
            for n, code in enumerate({"F32.9", dice.choices(["F41.1", "F10.20", "F20.0", "F50.00"], [60, 30, 8, 2])[0]}):
                lines.append({"resourceType": "Condition", "id": f"c{i}-{n}", "subject": {"reference": f"Patient/p{i}"},
                              "code": {"coding": [{"system": ICD, "code": code}], "text": f"Canary{i}"}, "recordedDate": "2024-03-05"})
            lines.append({"resourceType": "Observation", "id": f"o{i}", "status": "final", "code": {"coding": [{"system": LOINC, "code": "44261-6"}]},
                          "subject": {"reference": f"Patient/p{i}"}, "effectiveDateTime": "2024-03-05", "valueQuantity": {"value": dice.randint(0, 27), "system": "http://unitsofmeasure.org", "code": "{score}"}})
            f.writelines(json.dumps(x) + "\n" for x in lines)


def release(name, practice, *args):
    out = os.path.join(WORK, name)
    cloister("deidentify", "--quiet", "--practice", practice, "--policies", os.path.join(WORK, "policies"), "--format", "ndjson,csv,parquet", "--out", out, "--report", out + ".report", *args)
    return out


def rows(sql):
    return duckdb.sql(sql).fetchall()


def one(sql):
    return rows(sql)[0][0]


def canaries(out):
    """Every byte of the files, and every value that DuckDB finds in them."""
    found = []
    for name in sorted(os.listdir(out)):
        path = os.path.join(out, name)
        with open(path, "rb") as f:
            text = f.read()
        if name.endswith(".parquet"):
            text += repr(rows(f"SELECT * FROM '{path}'")).encode()
        if b"canary" in text.lower():
            found.append(name)
    return found


def risk():
    """How many patients are alike in everything that the table of patients tells of them."""
    town(os.path.join(WORK, "town.ndjson"))
    cloister("import", "--practice", "analytics", "--create-practice", "--quiet", "--report", os.path.join(WORK, "import.report"), os.path.join(WORK, "town.ndjson"))
    os.makedirs(os.path.join(WORK, "policies", "analytics"))
    with open(os.path.join(WORK, "policies", "analytics", "releases.json"), "w") as f:
        json.dump({"determinations": [{"reference": "DocumentReference/expert", "recipients": ["lab"], "from": "2020-01-01", "until": "2100-01-01", "k": LEAST, "days": 90,
                                       "quasiIdentifiers": ["gender", "birth-year", "state", "race"], "yearBand": 20}]}, f)
    k, rare = {}, {}
    for name, args in (("safe-harbor", ()), ("expert-determination", ("--profile", "expert-determination", "--determination", "DocumentReference/expert", "--recipient", "lab"))):
        out = release(name, "analytics", *args)
        table = duckdb.sql(f"SELECT * EXCLUDE (patient_key) FROM '{out}/patient.parquet'").df().astype(str)
        k[name] = anonymity.k_anonymity(table, list(table.columns))
        rare[name] = one(f"SELECT min(n) FROM (SELECT count(DISTINCT patient_key) n FROM '{out}/diagnosis.parquet' GROUP BY system, code)")
        print(f"{name}: {len(table)} patients, k = {k[name]}; the rarest diagnosis is that of {rare[name]}")
        check(f"{name}: no canary in any file", canaries(out), [])
        check(f"{name}: almost nobody is left out", len(table), lambda n: 390 <= n <= 400)
    check("expert determination: pycanon finds k of at least 11", k["expert-determination"], lambda n: n >= LEAST)
    check("expert determination: no diagnosis of fewer than 11 patients", rare["expert-determination"], lambda n: n >= LEAST)
    check("without it some patient stands alone: there was something to hide", k["safe-harbor"], lambda n: n < LEAST)
    check("without it some diagnosis is rare", rare["safe-harbor"], lambda n: n < LEAST)
    a, b = (one(f"SELECT list(patient_key) FROM '{WORK}/{x}/patient.parquet'") for x in k)
    check("two releases have no key in common", set(a) & set(b), set())


def same(spark):
    """The sample clinic, counted by Spark in the resources and by DuckDB in the tables."""
    out = release("clinic", "harbor")

    def resources(name):
        return spark.read.json(f"{out}/{name}.ndjson")

    patients, encounters, conditions = resources("Patient"), resources("Encounter"), resources("Condition")
    observations, responses, appointments = resources("Observation"), resources("QuestionnaireResponse"), resources("Appointment")
    scores = observations.where(F.exists("code.coding", lambda c: (c.system == LOINC) & (c.code == "44261-6")))
    filled = responses.where(F.exists("item", lambda i: i.linkId == "44255-8"))
    counted = {
        "patient": patients.count(),
        "encounter": encounters.where("status != 'entered-in-error'").count(),
        "level_of_care": encounters.where("status not in ('entered-in-error', 'cancelled')").count(),
        "diagnosis": conditions.select(F.explode("code.coding")).count(),
        "phq9_score": scores.count(),
        "phq9_response": filled.count(),
        "attendance": appointments.count(),
    }
    with open(os.path.join(out, "manifest.json")) as f:
        manifest = {t["file"]: t["rows"] for t in json.load(f)["tables"]}
    for view, n in counted.items():
        check(f"{view}: as many rows as Spark counts in the resources", one(f"SELECT count(*) FROM '{out}/{view}.parquet'"), n)
        check(f"{view}: Spark reads the Parquet file", spark.read.parquet(f"{out}/{view}.parquet").count(), n)
        check(f"{view}: DuckDB reads the same from CSV", one(f"SELECT count(*) FROM read_csv('{out}/{view}.csv', header = true, all_varchar = true)"), n)
        check(f"{view}: the manifest says so", (manifest[view + ".parquet"], manifest[view + ".csv"]), (n, n))
        check(f"{view}: there is something", n, lambda n: n > 0)

    def score(c):
        return F.col(c).cast("int")

    total = scores.select(F.sum(score("valueQuantity.value")), F.max(score("valueQuantity.value"))).first()
    check("phq9_score: sum and maximum", rows(f"SELECT sum(score), max(score) FROM '{out}/phq9_score.parquet'")[0], tuple(total))
    items = filled.select(F.explode("item").alias("i")).select("i.linkId", F.explode("i.answer").alias("a"))
    want = items.where("linkId = '44261-6'").select(F.sum("a.valueInteger")).first()[0]
    check("phq9_response: the nine answers add up to the totals", one(
        f"SELECT sum(interest + mood + sleep + energy + appetite + self_regard + concentration + pace + self_harm) FROM '{out}/phq9_response.parquet'"), want)
    outcomes = dict(appointments.groupBy("status").count().collect())
    check("attendance: outcomes", dict(rows(f"SELECT outcome, count(*) FROM '{out}/attendance.parquet' GROUP BY 1")), {"attended": outcomes["fulfilled"], "open": outcomes["booked"]})
    check("joins: every row is of a patient of the release", [v for v in counted if one(
        f"SELECT count(*) FROM '{out}/{v}.parquet' WHERE patient_key IS NULL OR patient_key NOT IN (SELECT patient_key FROM '{out}/patient.parquet')")], [])
    check("types: a year and a score are numbers", rows(f"SELECT typeof(birth_year), typeof(deceased) FROM '{out}/patient.parquet' LIMIT 1") + rows(f"SELECT typeof(score) FROM '{out}/phq9_score.parquet' LIMIT 1"),
          [("INTEGER", "BOOLEAN"), ("INTEGER",)])
    for view in counted:
        keys = [r[0] for r in rows(f"SELECT * FROM '{out}/{view}.parquet'")]
        check(f"{view}: rows are in the order of their keys", keys == sorted(keys))


def ask(path, **headers):
    """A request of the exchange; status, headers and bytes."""
    url = path if path.startswith("http") else f"{BASE}/{path}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}", **headers}), timeout=60) as r:
        return r.status, r.headers, r.read()


def exported():
    """The tables of a release that the server makes for the exchange, read by DuckDB from the files as they are fetched."""
    found = {}
    for kind in ("parquet", "csv"):
        _, headers, _ = ask(f"$export?_profile=safe-harbor&_outputFormat={kind}", Prefer="respond-async")
        for _ in range(120):
            status, _, body = ask(headers["Content-Location"])
            if status == 200:
                break
            time.sleep(1)
        for n, entry in enumerate(json.loads(body)["output"]):
            view, path = entry["extension"]["table"]["view"], os.path.join(WORK, f"exported-{n}.{kind}")
            with open(path, "wb") as f:
                f.write(ask(entry["url"])[2])
            read = f"read_csv('{path}', all_varchar = true)" if kind == "csv" else f"'{path}'"
            check(f"{view}, exported as {kind}: as many rows as the manifest says", one(f"SELECT count(*) FROM {read}"), entry["count"])
            found.setdefault(view, {}).setdefault(kind, [0, []])
            found[view][kind][0] += entry["count"]
            found[view][kind][1] = [c[0] for c in rows(f"DESCRIBE SELECT * FROM {read}")]
    check("all views are exported but that of appointments, which are not for exchanges", sorted(found), ["diagnosis", "encounter", "level_of_care", "patient", "phq9_response", "phq9_score"])
    check("as CSV and as Parquet they have the same rows and columns", [v for v, x in found.items() if x.get("csv") != x.get("parquet")], [])
    check("there are patients in them", found.get("patient", {}).get("csv", [0])[0], lambda n: n > 0)


risk()
exported()
session = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false").config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
           .config("spark.sql.shuffle.partitions", "1").config("spark.sql.warehouse.dir", os.path.join(WORK, "warehouse")).config("spark.log.level", "ERROR").getOrCreate())
try:
    same(session)
finally:
    session.stop()
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
