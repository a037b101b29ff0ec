// What fhir-kit-client expects of a server, asked of a running one.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Client } from 'fhir-kit-client';

const base = process.env.CLOISTER_BASE;
const tokens = JSON.parse(readFileSync(process.env.CLOISTER_PERSONAS));
const as = (who) => new Client({ baseUrl: base, bearerToken: tokens[who] });
const therapist = as('therapist');
const colleague = as('colleague');

let passed = 0;
let failed = 0;
async function check(name, run) {
  try {
    await run();
    passed++;
    console.log(`ok - ${name}`);
  } catch (e) {
    failed++;
    const said = e.response?.data?.issue?.map((i) => i.diagnostics).join('; ');
    console.log(`not ok - ${name}: ${String(e.message).replaceAll('\n', ' ')}${said ? ` (${said})` : ''}`);
  }
}

/** Fails unless the promise is refused with that status and an OperationOutcome with that code. */
async function refused(promise, status, code) {
  const e = await promise.then(() => assert.fail(`succeeded, want ${status}`), (x) => x);
  if (!e.response) throw e;
  assert.equal(e.response.status, status, `${e.response.status} ${JSON.stringify(e.response.data)}`);
  assert.equal(e.response.data.resourceType, 'OperationOutcome');
  assert.ok(e.response.data.issue.length > 0);
  if (code) assert.equal(e.response.data.issue[0].code, code);
  return e.response.data;
}

const system = 'https://example.org/conformance';
const run = `fhir-kit-${Date.now()}`;
const claims = JSON.parse(Buffer.from(tokens.therapist.split('.')[1], 'base64url'));
const status = (r) => Client.httpFor(r).response.status;
const header = (r, name) => Client.httpFor(r).response.headers.get(name);
const resources = (bundle) => (bundle.entry ?? []).map((e) => e.resource);
const ids = (bundle) => resources(bundle).map((r) => r.id);

const nora = (await therapist.search({ resourceType: 'Patient', searchParams: { name: 'Bergstrom' } })).entry[0].resource;
const subject = { reference: `Patient/${nora.id}` };
const observation = (key, more = {}) => ({
  resourceType: 'Observation', status: 'final', identifier: [{ system, value: `${run}-${key}` }],
  code: { coding: [{ system, code: run }] }, subject, effectiveDateTime: '2026-01-05', ...more,
});
const note = (key) => ({
  resourceType: 'DocumentReference', status: 'current', subject, author: [{ reference: claims.fhirUser }],
  identifier: [{ system, value: `${run}-${key}` }],
  type: { coding: [{ system: 'https://cloister.health/fhir/CodeSystem/note-kind', code: 'psychotherapy-note' }] },
  content: [{ attachment: { contentType: 'text/plain', data: 'eA==' } }],
});
const create = (body, options) => therapist.create({ resourceType: body.resourceType, body, options });
const search = (resourceType, searchParams, options) => therapist.search({ resourceType, searchParams, options });

await check('capability statement', async () => {
  const c = await as('therapist').capabilityStatement();
  assert.equal(c.resourceType, 'CapabilityStatement');
  assert.equal(c.fhirVersion, '4.0.1');
});
await check('SMART configuration', async () => {
  const m = await therapist.smartAuthMetadata();
  assert.ok(m.tokenUrl);
});

await check('create, read, vread, update', async () => {
  const made = await create(observation('crud'));
  assert.equal(status(made), 201);
  assert.equal(made.meta.versionId, '1');
  assert.ok(header(made, 'location').endsWith(`/Observation/${made.id}/_history/1`));
  const read = await therapist.read({ resourceType: 'Observation', id: made.id });
  assert.deepEqual(read, { ...made });
  read.status = 'amended';
  const updated = await therapist.update({ resourceType: 'Observation', id: made.id, body: read });
  assert.equal(status(updated), 200);
  assert.equal(updated.meta.versionId, '2');
  const old = await therapist.vread({ resourceType: 'Observation', id: made.id, version: '1' });
  assert.equal(old.status, 'final');
  await refused(therapist.vread({ resourceType: 'Observation', id: made.id, version: '9' }), 404, 'not-found');
});
await check('update with If-Match', async () => {
  const made = await create(observation('match'));
  const put = (version) => therapist.update({ resourceType: 'Observation', id: made.id, body: { ...made, status: 'amended' }, options: { headers: { 'If-Match': `W/"${version}"` } } });
  assert.equal((await put(1)).meta.versionId, '2');
  await refused(put(1), 412, 'conflict');
});
await check('update as create', async () => {
  const id = run;
  const made = await therapist.update({ resourceType: 'Observation', id, body: { ...observation('own'), id } });
  assert.equal(status(made), 201);
  assert.equal((await therapist.read({ resourceType: 'Observation', id })).id, id);
});
await check('conditional read', async () => {
  const made = await create(observation('if-none-match'));
  const e = await therapist.read({ resourceType: 'Observation', id: made.id, options: { headers: { 'If-None-Match': 'W/"1"' } } }).catch((x) => x);
  assert.equal(e.response?.status, 304);
});
await check('Prefer: return', async () => {
  const minimal = await create(observation('minimal'), { headers: { Prefer: 'return=minimal' } });
  assert.equal(minimal.resourceType, undefined);
  assert.equal(status(minimal), 201);
  const outcome = await create(observation('outcome'), { headers: { Prefer: 'return=OperationOutcome' } });
  assert.equal(outcome.resourceType, 'OperationOutcome');
});

await check('JSON Patch', async () => {
  const made = await create(observation('patch'));
  const patch = (ops, headers) => therapist.patch({ resourceType: 'Observation', id: made.id, jsonPatch: ops, options: { headers } });
  const patched = await patch([{ op: 'test', path: '/status', value: 'final' }, { op: 'replace', path: '/status', value: 'amended' }]);
  assert.equal(patched.status, 'amended');
  assert.equal(patched.meta.versionId, '2');
  await refused(patch([{ op: 'replace', path: '/status', value: 'final' }], { 'If-Match': 'W/"1"' }), 412, 'conflict');
  await refused(patch([{ op: 'replace', path: '/status', value: 'wrong' }]), 422);
  const e = await patch([{ op: 'test', path: '/status', value: 'final' }, { op: 'replace', path: '/status', value: 'registered' }]).catch((x) => x);
  assert.ok([409, 412, 422].includes(e.response?.status), `a test that fails: ${e.response?.status}`);
  assert.equal((await therapist.read({ resourceType: 'Observation', id: made.id })).meta.versionId, '2');
});

await check('conditional create', async () => {
  const once = () => create(observation('once'), { headers: { 'If-None-Exist': `identifier=${system}|${run}-once` } });
  const first = await once();
  assert.equal(status(first), 201);
  assert.equal(status(await once()), 200);
  assert.deepEqual(ids(await search('Observation', { identifier: `${system}|${run}-once` })), [first.id]);
  await create(observation('once'));
  await refused(once(), 412);
});
await check('conditional update', async () => {
  const put = (body) => therapist.update({ resourceType: 'Observation', searchParams: { identifier: `${system}|${run}-upsert` }, body });
  const made = await put(observation('upsert'));
  assert.equal(status(made), 201);
  const changed = await put(observation('upsert', { status: 'amended' }));
  assert.equal(status(changed), 200);
  assert.equal(changed.id, made.id);
  assert.equal(changed.meta.versionId, '2');
  await create(observation('upsert'));
  await refused(put(observation('upsert')), 412);
});
await check('delete, and 410 with its history', async () => {
  const made = await create(note('gone'));
  const at = { resourceType: 'DocumentReference', id: made.id };
  await therapist.delete(at);
  await refused(therapist.read(at), 410, 'deleted');
  const h = await therapist.history(at);
  assert.deepEqual(h.entry.map((e) => e.request.method), ['DELETE', 'POST']);
  assert.equal((await search('DocumentReference', { _id: made.id })).entry, undefined);
});
await check('conditional delete', async () => {
  const made = await create(note('conditional'));
  await therapist.request(`DocumentReference?identifier=${encodeURIComponent(`${system}|${run}-conditional`)}`, { method: 'DELETE' });
  await refused(therapist.read({ resourceType: 'DocumentReference', id: made.id }), 410, 'deleted');
});
await check('conditional patch', async () => {
  await create(observation('conditional-patch'));
  const r = await therapist.request(`Observation?identifier=${encodeURIComponent(`${system}|${run}-conditional-patch`)}`, {
    method: 'PATCH', body: [{ op: 'replace', path: '/status', value: 'amended' }],
    options: { headers: { 'content-type': 'application/json-patch+json' } },
  });
  assert.equal(r.status, 'amended');
});

const pages = `${run}-pages`;
const paged = (n) => observation(`page-${n}`, { code: { coding: [{ system, code: pages }] }, effectiveDateTime: `2026-01-0${n}`, valueQuantity: { value: 10 - n, unit: 'mg', system: 'http://unitsofmeasure.org', code: 'mg' } });
for (const n of [3, 1, 5, 2, 4]) await create(paged(n));
const dates = (b) => resources(b).map((r) => r.effectiveDateTime.slice(-1)).join('');

await check('search through all pages', async () => {
  let page = await search('Observation', { code: `${system}|${pages}`, _count: 2, _sort: 'date', _total: 'accurate' });
  assert.equal(page.type, 'searchset');
  let got = '';
  for (let n = 0; page && n < 9; n++) {
    assert.equal(page.total, 5);
    assert.ok(resources(page).length <= 2);
    got += dates(page);
    page = await therapist.nextPage({ bundle: page });
  }
  assert.equal(got, '12345');
});
await check('search by POST gives the same', async () => {
  const params = { code: `${system}|${pages}`, _sort: '-date' };
  assert.deepEqual(ids(await search('Observation', params, { postSearch: true })), ids(await search('Observation', params)));
});
await check('sort', async () => {
  assert.equal(dates(await search('Observation', { code: pages, _sort: '-date' })), '54321');
  assert.equal(dates(await search('Observation', { code: pages, _sort: 'value-quantity' })), '54321');
  assert.equal(dates(await search('Observation', { code: pages, _sort: 'status,-date' })), '54321');
});
await check('prefixes, lists, repeats and modifiers', async () => {
  const found = async (params) => dates(await search('Observation', { code: pages, _sort: 'date', ...params }));
  assert.equal(await found({ date: 'ge2026-01-03' }), '345');
  assert.equal(await found({ date: ['gt2026-01-01', 'lt2026-01-04'] }), '23');
  assert.equal(await found({ date: '2026-01-02,2026-01-05' }), '25');
  assert.equal(await found({ 'value-quantity': 'gt7||mg' }), '12');
  assert.equal(await found({ 'status:not': 'final' }), '');
  assert.equal(await found({ 'value-string:missing': 'true' }), '12345');
});
await check('count only', async () => {
  const b = await search('Observation', { code: pages, _summary: 'count' });
  assert.equal(b.total, 5);
  assert.equal(b.entry, undefined);
});
await check('elements', async () => {
  const [r] = resources(await search('Observation', { code: pages, _elements: 'status', _count: 1 }));
  assert.equal(r.status, 'final');
  assert.equal(r.valueQuantity, undefined);
  assert.ok(r.meta.tag.some((t) => t.code === 'SUBSETTED'));
});
await check('chains', async () => {
  assert.equal((await search('Observation', { code: pages, 'subject:Patient.family': 'Bergstrom', _summary: 'count' })).total, 5);
  assert.equal((await search('Observation', { code: pages, 'subject:Patient.family': 'Reyes', _summary: 'count' })).total, 0);
  assert.deepEqual(ids(await search('Patient', { '_has:Observation:patient:code': pages })), [nora.id]);
});
await check('compartment search', async () => {
  const b = await therapist.search({ resourceType: 'Observation', compartment: { resourceType: 'Patient', id: nora.id }, searchParams: { code: pages } });
  assert.equal(resources(b).length, 5);
});
await check('search of the system', async () => {
  const b = await therapist.systemSearch({ searchParams: { _type: 'Patient,Observation', _id: nora.id } });
  assert.deepEqual(ids(b), [nora.id]);
});
await check('unknown parameters, strict and lenient', async () => {
  await refused(search('Patient', { colour: 'red' }), 400);
  const b = await search('Patient', { colour: 'red', _count: 1 }, { headers: { Prefer: 'handling=lenient' } });
  assert.ok(b.entry.some((e) => e.search.mode === 'outcome'));
});

await check('history of instance, type and system', async () => {
  const made = await create(observation('history'));
  for (const s of ['amended', 'corrected']) await therapist.update({ resourceType: 'Observation', id: made.id, body: { ...made, status: s } });
  const own = await therapist.history({ resourceType: 'Observation', id: made.id });
  assert.equal(own.type, 'history');
  assert.deepEqual(resources(own).map((r) => r.status), ['corrected', 'amended', 'final']);
  assert.deepEqual(own.entry.map((e) => e.request.method), ['PUT', 'PUT', 'POST']);
  for (const bundle of [await therapist.history({ resourceType: 'Observation' }), await therapist.history()]) {
    assert.equal(bundle.type, 'history');
    assert.deepEqual(resources(bundle).filter((r) => r?.id === made.id).map((r) => r.meta.versionId), ['3', '2', '1']);
  }
});

const entry = (method, url, resource, more) => ({ request: { method, url, ...more }, ...(resource && { resource }) });
const bundle = (type, ...entries) => ({ resourceType: 'Bundle', type, entry: entries });

await check('transaction with references between its entries', async () => {
  const uuid = 'urn:uuid:6a7e62c5-1c6d-4b8a-9d5e-0f4f2a3f8f10';
  const encounter = { resourceType: 'Encounter', status: 'finished', class: { system: 'http://terminology.hl7.org/CodeSystem/v3-ActCode', code: 'AMB' }, subject };
  const done = await therapist.transaction({
    body: bundle('transaction', entry('POST', 'Observation', observation('transaction', { encounter: { reference: uuid } })),
      { fullUrl: uuid, ...entry('POST', 'Encounter', encounter) }, entry('GET', `Patient/${nora.id}`)),
  });
  assert.equal(done.type, 'transaction-response');
  assert.deepEqual(done.entry.map((e) => e.response.status.slice(0, 3)), ['201', '201', '200']);
  const [o] = resources(await search('Observation', { identifier: `${system}|${run}-transaction` }));
  const e = await therapist.resolve({ reference: o.encounter.reference });
  assert.equal(e.resourceType, 'Encounter');

  const included = await search('Observation', { _id: o.id, _include: 'Observation:encounter' });
  assert.deepEqual(included.entry.map((x) => [x.resource.id, x.search.mode]), [[o.id, 'match'], [e.id, 'include']]);
  const back = await search('Encounter', { _id: e.id, _revinclude: 'Observation:encounter' });
  assert.deepEqual(back.entry.map((x) => [x.resource.id, x.search.mode]), [[e.id, 'match'], [o.id, 'include']]);
});
await check('transaction: everything or nothing', async () => {
  await refused(therapist.transaction({
    body: bundle('transaction', entry('POST', 'Observation', observation('rolled-back')), entry('POST', 'Observation', { resourceType: 'Observation' })),
  }), 422);
  assert.equal((await search('Observation', { identifier: `${system}|${run}-rolled-back`, _summary: 'count' })).total, 0);
});
await check('batch: each entry by itself', async () => {
  const done = await therapist.batch({
    body: bundle('batch', entry('POST', 'Observation', observation('batch')), entry('POST', 'Observation', { resourceType: 'Observation' }),
      entry('GET', `Patient/${nora.id}`), entry('GET', 'Patient/there-is-none'), entry('GET', `Observation?code=${pages}&_count=1`)),
  });
  assert.equal(done.type, 'batch-response');
  assert.deepEqual(done.entry.map((e) => e.response.status.slice(0, 3)), ['201', '422', '200', '404', '200']);
  assert.equal(done.entry[3].response.outcome.resourceType, 'OperationOutcome');
  assert.equal(done.entry[4].resource.type, 'searchset');
});

await check('$everything', async () => {
  const b = await therapist.operation({ name: '$everything', resourceType: 'Patient', id: nora.id, method: 'GET', input: { _count: 200 } });
  assert.equal(b.type, 'searchset');
  const types = new Set(resources(b).map((r) => r.resourceType));
  for (const t of ['Patient', 'Observation', 'Encounter']) assert.ok(types.has(t), `no ${t}`);
});
await check('$validate', async () => {
  const good = await therapist.operation({ name: '$validate', resourceType: 'Observation', input: observation('x') });
  assert.ok(good.issue.every((i) => !['error', 'fatal'].includes(i.severity)));
  const bad = await therapist.operation({ name: '$validate', resourceType: 'Observation', input: { resourceType: 'Observation', status: 'wrong' } });
  assert.ok(bad.issue.some((i) => i.severity === 'error'));
});
await check('$meta', async () => {
  const p = await therapist.operation({ name: '$meta', resourceType: 'Patient', id: nora.id, method: 'GET' });
  assert.equal(p.resourceType, 'Parameters');
  assert.equal(p.parameter[0].name, 'return');
  assert.ok(p.parameter[0].valueMeta);
});

await check('refusals are OperationOutcomes', async () => {
  await refused(therapist.read({ resourceType: 'Patient', id: 'there-is-none' }), 404, 'not-found');
  await refused(create({ resourceType: 'Observation', status: 'wrong' }), 422);
  await refused(new Client({ baseUrl: base }).read({ resourceType: 'Patient', id: nora.id }), 401, 'login');
  await refused(new Client({ baseUrl: base, bearerToken: 'x.y.z' }).read({ resourceType: 'Patient', id: nora.id }), 401, 'login');
  await refused(as('front-desk').search({ resourceType: 'DocumentReference', searchParams: {} }), 403, 'forbidden');
  await refused(therapist.delete({ resourceType: 'Patient', id: nora.id }), 403, 'forbidden');
});

await check('two callers, two answers', async () => {
  const mine = await search('DocumentReference', { patient: nora.id, _count: 100 });
  const kept = resources(mine).find((r) => r.type.coding.some((c) => c.code === 'psychotherapy-note'));
  assert.ok(kept, 'the author finds her note');
  assert.equal((await therapist.read({ resourceType: 'DocumentReference', id: kept.id })).id, kept.id);
  const theirs = await colleague.search({ resourceType: 'DocumentReference', searchParams: { patient: nora.id } });
  assert.equal(theirs.entry, undefined);
  const hidden = await refused(colleague.read({ resourceType: 'DocumentReference', id: kept.id }), 404, 'not-found');
  const absent = await refused(colleague.read({ resourceType: 'DocumentReference', id: 'there-is-none' }), 404, 'not-found');
  assert.deepEqual(hidden, absent);
  const psychiatrist = await as('psychiatrist').search({ resourceType: 'DocumentReference', searchParams: { patient: nora.id, _count: 100 } });
  assert.ok(resources(psychiatrist).length > 0 && !ids(psychiatrist).includes(kept.id), 'progress notes, but not that one');
  const count = async (c) => (await c.search({ resourceType: 'DocumentReference', searchParams: { _id: kept.id, _summary: 'count' } })).total;
  assert.deepEqual([await count(therapist), await count(colleague)], [1, 0]);
});

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
