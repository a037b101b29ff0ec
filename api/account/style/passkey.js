// Asks the browser for a passkey, or to make one, and sends its answer with the form.
'use strict';

const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');

// The members of the options and of the answers that are binary (Web Authentication Level 3, section 5.1.9).
function read(o) {
  const out = { ...o, challenge: bytes(o.challenge) };
  if (o.user) out.user = { ...o.user, id: bytes(o.user.id) };
  for (const list of ['allowCredentials', 'excludeCredentials']) {
    if (o[list]) out[list] = o[list].map((c) => ({ ...c, id: bytes(c.id) }));
  }
  return out;
}

function written(c) {
  const response = {};
  for (const name of ['clientDataJSON', 'attestationObject', 'authenticatorData', 'signature', 'userHandle']) {
    if (c.response[name]) response[name] = text(c.response[name]);
  }
  if (c.response.getTransports) response.transports = c.response.getTransports();
  return {
    id: c.id, rawId: text(c.rawId), type: c.type, response,
    authenticatorAttachment: c.authenticatorAttachment ?? undefined, clientExtensionResults: c.getClientExtensionResults(),
  };
}

const form = document.querySelector('form[data-passkey]');
const fault = document.getElementById('passkey-fault');

function say(message) {
  fault.textContent = message;
  fault.hidden = false;
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  fault.hidden = true;
  if (!window.PublicKeyCredential) {
    say(form.dataset.absent);
    return;
  }
  try {
    const given = JSON.parse(form.dataset.options);
    const publicKey = read(given.publicKey ?? given);
    const credential = await navigator.credentials[form.dataset.passkey]({ publicKey });
    form.elements.response.value = JSON.stringify(written(credential));
    form.submit();
  } catch {
    say(form.dataset.refused);
  }
});
