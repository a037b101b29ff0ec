// What fhirclient (SMART App Launch's own JavaScript library) expects of a server, asked of a running one.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import smart from 'fhirclient';

const base = process.env.CLOISTER_BASE;
const tokens = JSON.parse(readFileSync(process.env.CLOISTER_PERSONAS));
const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
const nowhere = { get: async () => null, set: async () => null, unset: async () => true };
const withToken = (token, more) => smart({ url: '/', headers: {}, socket: {} }, {}, nowhere)
  .client({ serverUrl: base, tokenResponse: token ? { access_token: token, ...more } : {} });
const as = (who) => withToken(tokens[who], { patient: claimsOf(tokens[who]).patient });
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
    console.log(`not ok - ${name}: ${String(e.message).replace(/\s+/g, ' ')}`);
  }
}

/** Fails unless the promise is refused with that status and an OperationOutcome with that code. */
async function refused(promise, status, code) {
  const e = await promise.then(() => assert.fail(`succeeded, want ${status}`), (x) => x);
  if (!e.status) throw e;
  assert.equal(e.status, status, e.message);
  const start = e.message.indexOf('{');
  const outcome = JSON.parse(e.message.slice(start, e.message.lastIndexOf('}') + 1));
  assert.equal(outcome.resourceType, 'OperationOutcome');
  if (code) assert.equal(outcome.issue[0].code, code);
  return outcome;
}

const system = 'https://example.org/conformance';
const run = `fhirclient-${Date.now()}`;
const json = { 'content-type': 'application/fhir+json' };
const resources = (b) => (b.entry ?? []).map((e) => e.resource);
const query = (type, params) => `${type}?${new URLSearchParams(params)}`;
const find = (type, params, options) => therapist.request(query(type, params), options);
const full = (options) => ({ ...options, includeResponse: true });

const nora = (await find('Patient', { name: 'Bergstrom' })).entry[0].resource;
const subject = { reference: `Patient/${nora.id}` };
const observation = (key, more = {}) => ({
  resourceType: 'Observation', status: 'final', identifier: [{ system, value: `${run}-${key}` }],
  code: { coding: [{ system, code: run }] }, subject, effectiveDateTime: '2026-01-05', ...more,
});
const note = (key) => ({
  resourceType: 'DocumentReference', status: 'current', subject, author: [{ reference: claimsOf(tokens.therapist).fhirUser }],
  identifier: [{ system, value: `${run}-${key}` }],
  type: { coding: [{ system: 'https://cloister.health/fhir/CodeSystem/note-kind', code: 'psychotherapy-note' }] },
  content: [{ attachment: { contentType: 'text/plain', data: 'eA==' } }],
});

await check('FHIR version of the capability statement', async () => {
  assert.equal(await therapist.getFhirVersion(), '4.0.1');
  assert.equal(await therapist.getFhirRelease(), 4);
});
await check('create, read, vread, update', async () => {
  const { body: made, response } = await therapist.create(observation('crud'), full());
  assert.equal(response.status, 201);
  assert.ok(response.headers.get('location').endsWith(`/Observation/${made.id}/_history/1`));
  assert.equal(response.headers.get('etag'), 'W/"1"');
  assert.deepEqual(await therapist.request(`Observation/${made.id}`), made);
  const updated = await therapist.update({ ...made, status: 'amended' });
  assert.equal(updated.meta.versionId, '2');
  assert.equal((await therapist.request(`Observation/${made.id}/_history/1`)).status, 'final');
  await refused(therapist.request(`Observation/${made.id}/_history/9`), 404, 'not-found');
});
await check('create without a representation: the library reads it from Location', async () => {
  const made = await therapist.create(observation('minimal'), { headers: { Prefer: 'return=minimal' } });
  assert.equal(made.resourceType, 'Observation');
  assert.ok(made.id);
});
await check('update with If-Match', async () => {
  const made = await therapist.create(observation('match'));
  const put = (v) => therapist.update({ ...made, status: 'amended' }, { headers: { 'If-Match': `W/"${v}"` } });
  assert.equal((await put(1)).meta.versionId, '2');
  await refused(put(1), 412, 'conflict');
});
await check('update as create', async () => {
  const { response } = await therapist.update({ ...observation('own'), id: run }, full());
  assert.equal(response.status, 201);
});
await check('JSON Patch', async () => {
  const made = await therapist.create(observation('patch'));
  const patched = await therapist.patch(`Observation/${made.id}`, [{ op: 'test', path: '/status', value: 'final' }, { op: 'replace', path: '/status', value: 'amended' }]);
  assert.equal(patched.status, 'amended');
  await refused(therapist.patch(`Observation/${made.id}`, [{ op: 'remove', path: '/status' }], { headers: { 'If-Match': 'W/"1"' } }), 412, 'conflict');
  await refused(therapist.patch(`Observation/${made.id}`, [{ op: 'remove', path: '/status' }]), 422);
  assert.equal((await therapist.request(`Observation/${made.id}`)).meta.versionId, '2');
});
await check('conditional create, update, patch and delete', async () => {
  const where = (key, type = 'Observation') => query(type, { identifier: `${system}|${run}-${key}` });
  const once = () => therapist.create(observation('once'), full({ headers: { 'If-None-Exist': where('once').split('?')[1] } }));
  assert.deepEqual([(await once()).response.status, (await once()).response.status], [201, 200]);
  const put = (status) => therapist.request({ url: where('upsert'), method: 'PUT', headers: json, body: JSON.stringify(observation('upsert', { status })) });
  const made = await put('final');
  const changed = await put('amended');
  assert.deepEqual([changed.id, changed.meta.versionId, changed.status], [made.id, '2', 'amended']);
  const patched = await therapist.patch(where('upsert'), [{ op: 'replace', path: '/status', value: 'corrected' }]);
  assert.deepEqual([patched.id, patched.status], [made.id, 'corrected']);
  await therapist.create(observation('upsert'));
  await refused(put('final'), 412);
  const kept = await therapist.create(note('conditional'));
  await therapist.delete(where('conditional', 'DocumentReference'));
  await refused(therapist.request(`DocumentReference/${kept.id}`), 410, 'deleted');
});
await check('delete, and 410 with its history', async () => {
  const made = await therapist.create(note('gone'));
  await therapist.delete(`DocumentReference/${made.id}`);
  await refused(therapist.request(`DocumentReference/${made.id}`), 410, 'deleted');
  const h = await therapist.request(`DocumentReference/${made.id}/_history`);
  assert.deepEqual(h.entry.map((e) => e.request.method), ['DELETE', 'POST']);
});

const pages = `${run}-pages`;
for (const n of [3, 1, 5, 2, 4]) await therapist.create(observation(`page-${n}`, { code: { coding: [{ system, code: pages }] }, effectiveDateTime: `2026-01-0${n}` }));
const day = (r) => r.effectiveDateTime.slice(-1);
await check('search through all pages, flat', async () => {
  const all = await find('Observation', { code: pages, _count: 2, _sort: 'date' }, { pageLimit: 0, flat: true });
  assert.equal(all.map(day).join(''), '12345');
});
await check('search page by page', async () => {
  let n = 0;
  let got = '';
  for await (const page of therapist.pages(query('Observation', { code: pages, _count: 2, _sort: '-date' }))) {
    n++;
    got += resources(page).map(day).join('');
  }
  assert.deepEqual([n, got], [3, '54321']);
  got = '';
  for await (const r of therapist.resources(query('Observation', { code: pages, _count: 2, _sort: '-date' }), { limit: 4 })) got += day(r);
  assert.equal(got, '5432');
});
await check('references are resolved', async () => {
  const b = await find('Observation', { code: pages, _count: 1 }, { resolveReferences: ['subject'] });
  assert.equal(resources(b)[0].subject.id, nora.id);
});
await check('_include and _revinclude', async () => {
  const b = await find('Observation', { code: pages, _count: 1, _include: 'Observation:patient' });
  assert.deepEqual(b.entry.map((e) => [e.resource.resourceType, e.search.mode]), [['Observation', 'match'], ['Patient', 'include']]);
  const back = await find('Patient', { _id: nora.id, _revinclude: 'RelatedPerson:patient' });
  assert.equal(back.entry[0].resource.id, nora.id);
  const many = await find('Patient', { _id: nora.id, _revinclude: 'Coverage:beneficiary' });
  assert.equal(many.entry[0].search.mode, 'match');
});
await check('history of instance, type and system', async () => {
  const made = await therapist.create(observation('history'));
  await therapist.update({ ...made, status: 'amended' });
  for (const at of [`Observation/${made.id}/_history`, 'Observation/_history', '_history']) {
    const b = await therapist.request(at);
    assert.equal(b.type, 'history');
    assert.deepEqual(resources(b).filter((r) => r?.id === made.id).map((r) => r.meta.versionId), ['2', '1'], at);
  }
});
await check('transaction and batch', async () => {
  const send = (type, ...entry) => therapist.request({ url: '/', method: 'POST', headers: json, body: JSON.stringify({ resourceType: 'Bundle', type, entry }) });
  const post = (resource) => ({ resource, request: { method: 'POST', url: resource.resourceType } });
  const done = await send('transaction', post(observation('transaction')), { request: { method: 'GET', url: `Patient/${nora.id}` } });
  assert.deepEqual(done.entry.map((e) => e.response.status.slice(0, 3)), ['201', '200']);
  await refused(send('transaction', post(observation('rolled-back')), post({ resourceType: 'Observation' })), 422);
  assert.equal((await find('Observation', { identifier: `${system}|${run}-rolled-back`, _summary: 'count' })).total, 0);
  const each = await send('batch', post(observation('batch')), post({ resourceType: 'Observation' }));
  assert.deepEqual(each.entry.map((e) => e.response.status.slice(0, 3)), ['201', '422']);
});
await check('$everything, $validate, $meta', async () => {
  const all = await therapist.request(`Patient/${nora.id}/$everything?_count=50`, { pageLimit: 0, flat: true });
  assert.ok(all.length > 50 && new Set(all.map((r) => r.resourceType)).size > 5, `${all.length} resources`);
  const outcome = await therapist.request({ url: 'Observation/$validate', method: 'POST', headers: json, body: JSON.stringify(observation('x')) });
  assert.equal(outcome.resourceType, 'OperationOutcome');
  const meta = await therapist.request(`Patient/${nora.id}/$meta`);
  assert.equal(meta.parameter[0].name, 'return');
});
await check('refusals are OperationOutcomes', async () => {
  await refused(therapist.request('Patient/there-is-none'), 404, 'not-found');
  await refused(therapist.create({ resourceType: 'Observation', status: 'wrong' }), 422);
  await refused(withToken(null).request(`Patient/${nora.id}`), 401, 'login');
  await refused(withToken('x.y.z').request(`Patient/${nora.id}`), 401, 'login');
  await refused(as('front-desk').request('DocumentReference'), 403, 'forbidden');
  await refused(therapist.request('Patient?colour=red'), 400);
});
await check('the patient of a launch, and what is hers', async () => {
  const patient = as('patient');
  assert.equal((await patient.patient.read()).id, nora.id);
  const all = await patient.patient.request('Observation', { pageLimit: 0, flat: true });
  assert.ok(all.length > 0 && all.every((o) => o.subject.reference === `Patient/${nora.id}`));
});
await check('two callers, two answers', async () => {
  const mine = await find('DocumentReference', { patient: nora.id, _count: 100 });
  const kept = resources(mine).find((r) => r.type.coding.some((c) => c.code === 'psychotherapy-note'));
  assert.ok(kept, 'the author finds her note');
  const theirs = await colleague.request(query('DocumentReference', { patient: nora.id }));
  assert.equal(theirs.entry, undefined);
  const hidden = await refused(colleague.request(`DocumentReference/${kept.id}`), 404, 'not-found');
  const absent = await refused(colleague.request('DocumentReference/there-is-none'), 404, 'not-found');
  assert.deepEqual(hidden, absent);
  const own = await as('patient').request(query('DocumentReference', { patient: nora.id, _count: 100 }));
  assert.ok(!resources(own).some((r) => r.id === kept.id), 'no right of access to it');
});

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
