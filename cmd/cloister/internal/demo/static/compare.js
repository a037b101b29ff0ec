import { settings } from './smart.js';
import { element, look, picture } from './chart.js';

const { fhir, issuer, patients } = await settings();

async function tokenOf(persona) {
  const answer = await fetch(`${issuer}/token`, { method: 'POST', body: new URLSearchParams({ grant_type: 'client_credentials', client_id: persona }) });
  return (await answer.json()).access_token;
}

for (const patient of patients) {
  const row = element('div', { class: 'row' });
  document.getElementById('patients').append(element('h2', {}, patient.name), element('p', {}, patient.about), row);
  for (const { persona, about } of patient.as) {
    const panel = element('section', { class: 'panel', 'aria-label': `${patient.name} as ${persona}`, 'data-persona': persona }, element('h3', {}, persona), element('p', { class: 'about' }, about));
    row.append(panel);
    try {
      panel.append(picture(await look(fhir, await tokenOf(persona), patient.id), `${persona}-${patient.id}`, true));
    } catch (e) {
      panel.append(element('p', { class: 'nothing' }, e.message));
    }
  }
}
document.documentElement.dataset.ready = 'yes';
