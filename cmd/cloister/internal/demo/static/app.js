import { authorize, comeBack, refreshed, settings } from './smart.js';
import { look, picture } from './chart.js';

const at = (id) => document.getElementById(id);
const say = (text) => { at('said').textContent = text; };
const fault = (e) => { at('fault').replaceChildren(...(e ? [Object.assign(document.createElement('p'), { textContent: `That did not work: ${e.message}` })] : [])); };
const where = await settings();
let held = JSON.parse(sessionStorage.getItem('token') ?? 'null');

function keep(answer) {
  held = answer;
  if (answer) sessionStorage.setItem('token', JSON.stringify(answer));
  else sessionStorage.removeItem('token');
}

async function show() {
  fault(null);
  at('start').hidden = Boolean(held);
  at('grant').hidden = at('chart').hidden = !held;
  if (!held) return;
  at('refresh').hidden = !held.refresh_token;
  at('scopes').replaceChildren(...held.scope.split(' ').map((s) => Object.assign(document.createElement('code'), { textContent: s })));
  at('chart').replaceChildren(picture(await look(where.fhir, held.access_token, held.patient), 'trend'));
}

async function tried(run) {
  try {
    await run();
  } catch (e) {
    fault(e);
    say('');
  }
}

at('connect').addEventListener('click', () => tried(() => authorize(where, null)));
at('again').addEventListener('click', () => tried(async () => { await show(); say('Read again.'); }));
at('refresh').addEventListener('click', () => tried(async () => { keep({ ...held, ...await refreshed(where, held) }); await show(); say('The token is new.'); }));
at('forget').addEventListener('click', () => tried(async () => { keep(null); await show(); say(''); }));

await tried(async () => {
  if (new URLSearchParams(location.search).has('state')) {
    at('start').hidden = false;
    keep(await comeBack(where));
  }
  await show();
});
document.documentElement.dataset.ready = 'yes';
