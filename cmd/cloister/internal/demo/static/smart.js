// SMART App Launch 2.2 for a public app in a browser: discovery, PKCE, the code, the token, its refresh.

const random = () => encode(crypto.getRandomValues(new Uint8Array(32)));
const encode = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
const here = (page) => new URL(page, location.href).href.split(/[?#]/)[0];

export const settings = async () => (await fetch('config.json')).json();

async function configuration(base) {
  const answer = await fetch(`${base}/.well-known/smart-configuration`, { headers: { accept: 'application/json' } });
  if (!answer.ok) throw new Error(`the SMART configuration was answered with ${answer.status}`);
  return answer.json();
}

/** Sends the browser to the authorization server; launch is the handle of an EHR, or null. */
export async function authorize({ fhir, client, scopes }, launch) {
  const { authorization_endpoint: endpoint } = await configuration(fhir);
  const verifier = random();
  const state = random();
  const challenge = encode(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))));
  const redirect = here('./');
  sessionStorage.setItem(`launch ${state}`, JSON.stringify({ verifier, redirect }));
  const without = launch ? 'launch/patient' : 'launch';
  const query = new URLSearchParams({
    response_type: 'code', client_id: client, redirect_uri: redirect, scope: scopes.filter((s) => s !== without).join(' '), state, aud: fhir,
    code_challenge: challenge, code_challenge_method: 'S256', ...(launch && { launch }),
  });
  location.assign(`${endpoint}?${query}`);
}

async function token({ fhir, client }, form) {
  const { token_endpoint: endpoint } = await configuration(fhir);
  const answer = await fetch(endpoint, { method: 'POST', body: new URLSearchParams({ ...form, client_id: client }) });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error_description ?? said.error ?? `the token endpoint answered ${answer.status}`);
  return said;
}

/** Finishes an authorization if the browser comes back from one; gives the token answer, or null. */
export async function comeBack(where) {
  const query = new URLSearchParams(location.search);
  const state = query.get('state');
  if (!state) return null;
  history.replaceState(null, '', here('./'));
  const kept = sessionStorage.getItem(`launch ${state}`);
  sessionStorage.removeItem(`launch ${state}`);
  if (!kept) throw new Error('this answer belongs to no request of this window');
  if (query.get('error')) throw new Error(query.get('error_description') ?? query.get('error'));
  const { verifier, redirect } = JSON.parse(kept);
  return token(where, { grant_type: 'authorization_code', code: query.get('code'), redirect_uri: redirect, code_verifier: verifier });
}

export const refreshed = (where, held) => token(where, { grant_type: 'refresh_token', refresh_token: held.refresh_token });
