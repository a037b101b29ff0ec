// The pages of sign-in, the demo app and fhirclient in Chromium, against a server of their own: passkeys need a domain.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';

const here = new URL('.', import.meta.url).pathname;
const axe = readFileSync(`${here}node_modules/axe-core/axe.min.js`, 'utf8');
const shots = process.env.CLOISTER_SCREENSHOTS;
if (shots) mkdirSync(shots, { recursive: true });

// --- the app, and the server -----------------------------------------------------
const files = { '/': ['app/index.html', 'text/html'], '/launch.html': ['app/launch.html', 'text/html'], '/fhir-client.js': ['node_modules/fhirclient/build/fhir-client.min.js', 'text/javascript'] };
const web = createServer((rq, rs) => {
  const file = files[new URL(rq.url, 'http://app').pathname];
  if (!file) return rs.writeHead(404).end();
  return rs.writeHead(200, { 'content-type': file[1] }).end(readFileSync(here + file[0]));
});
const listen = (s) => new Promise((done) => { s.listen(0, '127.0.0.1', () => done(s.address().port)); });
const freePort = async () => {
  const s = createServer();
  const port = await listen(s);
  await new Promise((done) => { s.close(done); });
  return port;
};
const app = `http://127.0.0.1:${await listen(web)}`;
const [api, issue, side] = [await freePort(), await freePort(), await freePort()];
const [base, issuer, demo] = [`http://localhost:${api}`, `http://127.0.0.1:${issue}`, `http://127.0.0.1:${side}`];
const fhir = `${base}/fhir`;
const client = `phq9-trend-${side}`;
const server = spawn(process.env.CLOISTER_BINARY, [
  'dev', '--data', process.env.CLOISTER_BROWSER_DATA, '--base-url', fhir, '--cors-origins', app,
  '--listen', `127.0.0.1:${api}`, '--issuer-listen', `127.0.0.1:${issue}`, '--demo-listen', `127.0.0.1:${side}`,
], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, CLOISTER_DATABASE_URL: '' } });
let said = '';
for (const s of [server.stdout, server.stderr]) s.on('data', (d) => { said = (said + d).slice(-20000); });
const ended = new Promise((done) => { server.on('exit', done); });
const stop = async () => { server.kill('SIGTERM'); await ended; };
process.on('SIGTERM', () => stop().then(() => process.exit(143)));
for (let n = 0; ; n++) {
  if (await fetch(demo).then((r) => r.ok, () => false)) break;
  if (n > 600 || server.exitCode !== null) {
    console.log(said);
    console.log('not ok - cloister dev did not get ready\n0 passed, 1 failed');
    await stop();
    process.exit(1);
  }
  await new Promise((done) => { setTimeout(done, 200); });
}

// --- the browser -------------------------------------------------------------------
const browser = await chromium.launch({ executablePath: process.env.CLOISTER_CHROMIUM ?? '/usr/bin/chromium', args: process.getuid() === 0 ? ['--no-sandbox'] : [] });
const refusedByPolicy = [];
async function person(options = {}) {
  const context = await browser.newContext({ viewport: { width: 900, height: 700 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30000);
  page.on('console', (m) => { if (/Content.Security.Policy|Refused to/i.test(m.text())) refusedByPolicy.push(`${page.url()}: ${m.text()}`); });
  return page;
}

let passed = 0;
let failed = 0;
async function check(name, run) {
  try {
    await run();
    passed++;
    console.log(`ok - ${name}`);
  } catch (e) {
    failed++;
    console.log(`not ok - ${name}: ${String(e.message).replace(/\s+/g, ' ').slice(0, 1500)}`);
  }
}

const looked = new Set();
/** Every rule of WCAG 2.2 A and AA that axe knows, in the light and the dark, and no sideways scrolling at 320 pixels (1.4.10). */
async function accessible(page, name) {
  looked.add(name);
  const size = page.viewportSize();
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    if (shots) await page.screenshot({ path: `${shots}/${name}-${colorScheme}.png`, fullPage: true });
    const found = await page.evaluate(`${axe}; axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })`);
    assert.deepEqual(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(' ')}`), [], `${name}, ${colorScheme}`);
  }
  await page.setViewportSize({ width: 320, height: 640 });
  const over = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme: null });
  assert.ok(over <= 0, `${name} is ${over} pixels wider than a small screen`);
}

const credentials = async (persona) => (await fetch(`${issuer}/sign-in/${persona}`)).json();
let lastCode = '';
/** A code that was not used yet: one is good once. */
async function freshCode(persona) {
  for (;;) {
    const { code } = await credentials(persona);
    if (code !== lastCode) { lastCode = code; return code; }
    await new Promise((done) => { setTimeout(done, 500); });
  }
}

async function signIn(page, persona) {
  const { email, password, code } = await credentials(persona);
  await page.fill('#email', email);
  await page.fill('#password', password);
  await page.click('main form >> nth=0 >> button');
  if (code) {
    await page.waitForSelector('#code');
    await page.fill('#code', await freshCode(persona));
    await page.click('main form >> nth=0 >> button');
  }
}

/** Moves with the Tab key alone until the focused element is one that selector names; all stops on the way must be visible. */
async function tabTo(page, selector) {
  for (let n = 0; n < 80; n++) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate((s) => {
      const e = document.activeElement;
      const drawn = [e, e.closest('label')].some((x) => x && getComputedStyle(x).outlineStyle !== 'none' && parseFloat(getComputedStyle(x).outlineWidth) >= 2);
      return { hit: e.matches(s), drawn, what: e.outerHTML.slice(0, 80), nothing: e === document.body };
    }, selector);
    if (!at.nothing) assert.ok(at.drawn, `the focus cannot be seen on ${at.what}`);
    if (at.hit) return;
  }
  throw new Error(`the keyboard does not reach ${selector} on ${page.url()}`);
}

const startStandalone = (page) => page.goto(`${app}/launch.html?${new URLSearchParams({ client, iss: fhir })}`);
const isReady = async (page) => {
  await page.waitForFunction(() => document.title === 'ready' || document.title.startsWith('fault'));
  assert.equal(await page.title(), 'ready');
};
/** Status of a read by fhirclient, which refreshes by itself where it can. */
const read = (page, target) => page.evaluate((t) => window.client.request(t).then((r) => r.resourceType, (e) => `refused ${e.status ?? e.statusCode ?? e.message}`), target);

const elena = await person();
await check('standalone launch with fhirclient, by keyboard alone, giving less than was asked', async () => {
  await startStandalone(elena);
  await elena.waitForSelector('#email');
  const { email, password } = await credentials('therapist');
  await accessible(elena, 'sign-in');
  await tabTo(elena, '#email');
  await elena.keyboard.type(email);
  await tabTo(elena, '#password');
  await elena.keyboard.type('not the password');
  await elena.keyboard.press('Enter');
  await elena.waitForSelector('.faults');
  assert.equal(await elena.evaluate('document.activeElement.className'), 'faults', 'the summary of errors has the focus');
  assert.match(await elena.title(), /^Error: /);
  await accessible(elena, 'sign-in-fault');
  await tabTo(elena, '.faults a');
  await elena.keyboard.press('Enter');
  assert.equal(await elena.evaluate('document.activeElement.id'), 'email', 'the summary leads to the field');
  await tabTo(elena, '#password');
  await elena.keyboard.type(password);
  await elena.keyboard.press('Enter');
  await elena.waitForSelector('#code');
  await accessible(elena, 'second-factor');
  await elena.focus('#code');
  await elena.keyboard.type(await freshCode('therapist'));
  await elena.keyboard.press('Enter');
  await elena.waitForSelector('#name');
  await accessible(elena, 'patients');
  await tabTo(elena, '#name');
  await elena.keyboard.type('Bergs');
  await elena.keyboard.press('Enter');
  await elena.waitForSelector('button.person');
  await accessible(elena, 'patients-found');
  await tabTo(elena, 'button.person');
  await elena.keyboard.press('Enter');
  await elena.waitForSelector('#sensitive');
  assert.match(await elena.textContent('#sensitive'), /can be among it/);
  await accessible(elena, 'consent');
  await tabTo(elena, 'input[value="patient/DocumentReference.rs"]');
  await elena.keyboard.press('Space');
  await tabTo(elena, 'button[value=yes]');
  await elena.keyboard.press('Enter');
  await isReady(elena);
  assert.equal(await elena.evaluate('window.client.patient.read().then((p) => p.name[0].family)'), 'Bergstrom');
  assert.match(await elena.evaluate('window.client.user.fhirUser'), /Practitioner\//);
  const patient = await elena.evaluate('window.client.patient.id');
  assert.equal(await read(elena, `Observation?patient=${patient}`), 'Bundle');
  assert.equal(await read(elena, `DocumentReference?patient=${patient}`), 'refused 403');
  assert.ok(!(await elena.evaluate('window.client.state.tokenResponse.scope')).includes('DocumentReference'));
});
await check('refresh with fhirclient', async () => {
  const before = await elena.evaluate('window.client.state.tokenResponse');
  await elena.evaluate('window.client.refresh()');
  const after = await elena.evaluate('window.client.state.tokenResponse');
  assert.notEqual(after.access_token, before.access_token);
  assert.notEqual(after.refresh_token, before.refresh_token);
  assert.equal(await read(elena, `Patient/${after.patient}`), 'Patient');
});
await check('disconnecting the app cuts it off', async () => {
  const { refresh_token: held } = await elena.evaluate('window.client.state.tokenResponse');
  const overview = await elena.context().newPage();
  await overview.goto(`${base}/smart/account`);
  await accessible(overview, 'account');
  await overview.click('button:has-text("Disconnect")');
  await overview.waitForSelector('text=The app is disconnected');
  await accessible(overview, 'account-done');
  await overview.close();
  assert.match(await read(elena, `Patient/${await elena.evaluate('window.client.patient.id')}`), /^refused/);
  const answer = await fetch(`${base}/smart/token`, { method: 'POST', body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: held, client_id: client }) });
  assert.deepEqual([answer.status, (await answer.json()).error], [400, 'invalid_grant']);
});
const ehr = async (persona, patient) => {
  const personas = await (await fetch(`${issuer}/personas`)).text();
  const id = new RegExp(`<option value="([^"]*)">${patient}`).exec(personas)[1];
  const answer = await fetch(`${issuer}/launch`, { method: 'POST', redirect: 'manual', headers: { origin: issuer }, body: new URLSearchParams({ persona, patient: id }) });
  return { id, to: new URL(answer.headers.get('location')) };
};
await check('EHR launch with fhirclient', async () => {
  const { id, to } = await ehr('therapist', 'Nora');
  await elena.goto(`${app}/launch.html?${new URLSearchParams({ client, iss: to.searchParams.get('iss'), launch: to.searchParams.get('launch') })}`);
  await elena.waitForSelector('#sensitive'); // she is signed in, and nobody is asked which patient
  assert.equal(await elena.$('text=Change patient'), null);
  await elena.click('button[value=yes]');
  await isReady(elena);
  assert.equal(await elena.evaluate('window.client.patient.id'), id);
  assert.equal(await elena.evaluate('window.client.state.tokenResponse.need_patient_banner'), true);
  assert.equal(await read(elena, `Patient/${id}`), 'Patient');
  // A handle is good once.
  await elena.goto(`${app}/launch.html?${new URLSearchParams({ client, iss: fhir, launch: to.searchParams.get('launch') })}`);
  await elena.waitForFunction(() => document.title.startsWith('fault'));
});
await check('EHR launch of the demo app from the page of personas', async () => {
  await elena.goto(`${issuer}/personas`);
  await elena.click('button:has-text("Launch as therapist") >> nth=0');
  await elena.waitForSelector('#sensitive');
  await elena.click('button[value=yes]');
  await elena.waitForSelector('.trend');
  await accessible(elena, 'demo');
  assert.equal(await elena.textContent('[data-count="of these psychotherapy notes"]'), '3');
  await elena.click('#refresh');
  await elena.waitForSelector('text=The token is new.');
});
await check('a launch for a patient whom the user may not see', async () => {
  const { to } = await ehr('therapist', 'Colin');
  await elena.goto(`${app}/launch.html?${new URLSearchParams({ client, iss: fhir, launch: to.searchParams.get('launch') })}`);
  await elena.waitForSelector('text=No access with this account');
  await accessible(elena, 'no-access');
});
await check('the same page for several people: what is hidden from whom', async () => {
  const page = await person();
  await page.goto(`${demo}/compare.html`);
  await page.waitForSelector('html[data-ready]');
  await accessible(page, 'compare');
  const seen = await page.$$eval('.panel', (panels) => Object.fromEntries(panels.map((p) => [
    p.getAttribute('aria-label'), [Boolean(p.querySelector('.trend')), ...['of these psychotherapy notes', 'Drug screens'].map((w) => p.querySelector(`[data-count="${w}"]`).textContent)],
  ])));
  assert.deepEqual(seen, {
    'Nora Bergstrom as therapist': [true, '3', '0'], 'Nora Bergstrom as psychiatrist': [true, '0', '0'], 'Nora Bergstrom as colleague': [false, '0', '0'],
    'Nora Bergstrom as patient': [true, '0', '0'], 'Nora Bergstrom as hie': [true, '0', '0'],
    'Colin Whitaker as sud-counselor': [true, '0', '8'], 'Colin Whitaker as therapist': [false, '0', '0'], 'Colin Whitaker as sud-patient': [true, '0', '8'], 'Colin Whitaker as hie': [true, '0', '8'],
  });
});
await check('a patient has nobody to choose, and can say no', async () => {
  const page = await person();
  await page.goto(demo);
  await page.click('#connect');
  await page.waitForSelector('#email');
  await signIn(page, 'patient');
  await page.waitForSelector('#sensitive');
  await accessible(page, 'consent-patient');
  await page.$$eval('input[type=checkbox]:not([disabled])', (boxes) => { for (const b of boxes) b.checked = false; });
  await page.click('button[value=yes]');
  await page.waitForSelector('.faults');
  await accessible(page, 'consent-fault');
  await page.click('button[value=no]');
  await page.waitForSelector('#fault p');
  assert.match(await page.textContent('#fault'), /the user said no/);
  await page.click('#connect');
  await page.waitForSelector('#sensitive');
  await page.click('button[value=yes]');
  await page.waitForSelector('.trend');
  assert.equal(await page.textContent('[data-count="of these psychotherapy notes"]'), '0');
});
await check('a mother is shown her child', async () => {
  const page = await person();
  await startStandalone(page);
  await page.waitForSelector('#email');
  await signIn(page, 'proxy');
  await page.waitForSelector('button.person');
  await accessible(page, 'children');
  assert.match(await page.textContent('button.person'), /Alba Castro/);
  await page.click('button.person');
  await page.waitForSelector('#sensitive');
  await page.click('button[value=yes]');
  await isReady(page);
});
await check('an interaction opens in its own browser only', async () => {
  const [mine, other] = [await person(), await person()];
  await startStandalone(mine);
  await mine.waitForSelector('#email');
  const id = new URL(mine.url()).searchParams.get('interaction');
  await other.goto(`${base}/smart/sign-in`);
  await signIn(other, 'patient');
  await other.waitForSelector('text=Your access');
  const answer = await other.goto(`${base}/smart/interaction/${id}`);
  assert.equal(answer.status(), 404);
  await accessible(other, 'fault');
});
await check('a page of another origin cannot send a form, nor show one in a frame', async () => {
  const page = await person();
  await page.goto(`${base}/smart/sign-in`);
  await signIn(page, 'patient');
  await page.waitForSelector('text=Your access');
  await page.goto(app);
  const [answer] = await Promise.all([
    page.waitForResponse((r) => r.request().method() === 'POST'),
    page.waitForURL('**/smart/sign-out'),
    page.evaluate((to) => { const f = document.createElement('form'); f.method = 'post'; f.action = to; document.body.append(f); f.submit(); }, `${base}/smart/sign-out`),
  ]);
  assert.equal(answer.status(), 403);
  await page.goto(`${base}/smart/account`);
  assert.match(await page.title(), /Your access/);
  await page.goto(app);
  await page.evaluate((to) => new Promise((done) => { const f = document.createElement('iframe'); f.onload = done; f.src = to; document.body.append(f); }), `${base}/smart/sign-in`);
  assert.ok(!(await Promise.all(page.frames().map((f) => f.$('#password').catch(() => null)))).some(Boolean), 'the sign-in is shown in a frame');
  refusedByPolicy.splice(0, refusedByPolicy.length, ...refusedByPolicy.filter((m) => !m.includes('frame-ancestors')));
});
await check('a passkey is made, and signs in alone', async () => {
  const page = await person();
  const session = await page.context().newCDPSession(page);
  await session.send('WebAuthn.enable');
  await session.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', ctap2Version: 'ctap2_1', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
  await page.goto(`${base}/smart/sign-in`);
  await signIn(page, 'patient');
  await page.waitForSelector('text=Your access');
  await page.click('text=Add a passkey');
  await accessible(page, 'enrol');
  await page.click('text=Set up a passkey');
  await page.waitForSelector('form[data-passkey]');
  await accessible(page, 'passkey');
  await page.fill('#name', 'Test');
  await page.click('form[data-passkey] button');
  await page.waitForSelector('text=Passkey “Test”');
  await page.click('text=Make new recovery codes');
  await page.waitForSelector('.codes');
  await accessible(page, 'codes');
  await page.click('text=Back to your access');
  await page.click('a:has-text("Change")');
  await page.waitForSelector('#old');
  await accessible(page, 'password');
  await page.click('footer button');
  await page.waitForSelector('text=You are signed out');
  await accessible(page, 'signed-out');
  await page.goto(`${base}/smart/sign-in`);
  await page.click('text=Sign in with a passkey');
  await page.waitForSelector('form[data-passkey]');
  await page.click('form[data-passkey] button');
  await page.waitForSelector('text=Your access');
  assert.match(await page.textContent('.places'), /by passkey/);
  // With a password, the passkey is the second step now.
  await page.click('footer button');
  await page.goto(`${base}/smart/sign-in`);
  const { email, password } = await credentials('patient');
  await page.fill('#email', email);
  await page.fill('#password', password);
  await page.click('main form >> nth=0 >> button');
  await page.waitForSelector('text=Use a recovery code');
  await accessible(page, 'second-factor-passkey');
  await page.click('text=Use your passkey');
  await page.click('form[data-passkey] button');
  await page.waitForSelector('text=Your access');
  await page.click('text=Add a passkey or');
  await page.click('text=Set up an app');
  await page.waitForSelector('svg.qr');
  await accessible(page, 'enrol-app');
  await page.fill('#code', '000000');
  await page.click('button:has-text("Finish")');
  await page.waitForSelector('.faults');
  await accessible(page, 'enrol-app-fault');
});
await check('the other pages', async () => {
  const page = await person();
  for (const [path, name] of [['recovery', 'recovery'], ['recovery/sent', 'recovery-sent'], ['invitation?token=x', 'invitation'], ['recovery?token=x', 'new-password'], ['account', 'sign-in-bare']]) {
    await page.goto(`${base}/smart/${path}`);
    await accessible(page, name);
    assert.ok(!page.url().includes('token='), page.url());
  }
  await page.goto(`${issuer}/personas`);
  await accessible(page, 'personas');
  await page.goto(demo);
  await page.waitForSelector('#connect');
  await accessible(page, 'demo-start');
});
await check('no page asks for what its policy refuses', async () => assert.deepEqual(refusedByPolicy, []));

await browser.close();
await stop();
web.close();
console.log(`${looked.size} pages looked at`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
