import { authorize, settings } from './smart.js';

const query = new URLSearchParams(location.search);
const where = await settings();
try {
  // An app says which servers it trusts: whoever sends a browser here could name any.
  if (query.get('iss') !== where.fhir) throw new Error('this app knows no such server');
  sessionStorage.removeItem('token');
  await authorize(where, query.get('launch'));
} catch (e) {
  document.getElementById('fault').textContent = `That did not work: ${e.message}`;
}
