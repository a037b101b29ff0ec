// The trend of a score as an SVG, and beside it what else of the patient an access token opens.

const space = 'http://www.w3.org/2000/svg';
const loinc = 'http://loinc.org';
const kinds = 'https://cloister.health/fhir/CodeSystem/note-kind';

function svg(name, attributes, text) {
  const e = document.createElementNS(space, name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}

export function element(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

/** A request to the FHIR API. What is hidden is absent, so that an empty answer says nothing of why. */
export async function ask(fhir, bearer, target) {
  const answer = await fetch(`${fhir}/${target}`, { headers: { authorization: `Bearer ${bearer}`, accept: 'application/fhir+json' } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const e = new Error(body.issue?.[0]?.details?.text ?? body.issue?.[0]?.diagnostics ?? `the server answered ${answer.status}`);
    e.status = answer.status;
    throw e;
  }
  return body;
}

/** All resources of a search, page by page. */
async function all(fhir, bearer, target) {
  const out = [];
  for (let next = target; next;) {
    const bundle = await ask(fhir, bearer, next);
    out.push(...(bundle.entry ?? []).filter((e) => e.search?.mode !== 'outcome').map((e) => e.resource));
    const link = bundle.link?.find((l) => l.relation === 'next')?.url;
    next = link?.startsWith(`${fhir}/`) ? link.slice(fhir.length + 1) : link?.startsWith(`${fhir}?`) ? link.slice(fhir.length) : null;
  }
  return out;
}

const bands = [[0, 'none'], [5, 'mild'], [10, 'moderate'], [15, 'moderately severe'], [20, 'severe']];

/** The chart of points {at: Date, score}; id makes its names unique on the page. */
export function chart(points, id, small) {
  const [width, height, left, right, top, bottom] = small ? [300, 200, 30, 12, 12, 28] : [640, 260, 40, 130, 12, 32];
  const first = +points[0].at;
  const span = Math.max(1, +points.at(-1).at - first);
  const x = (at) => left + (width - left - right) * (points.length === 1 ? 0.5 : (at - first) / span);
  const y = (score) => top + (height - top - bottom) * (1 - score / 27);
  const last = points.at(-1);
  const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-labelledby': `${id}-t ${id}-d`, class: 'trend' });
  root.append(svg('title', { id: `${id}-t` }, 'PHQ-9 over time'));
  root.append(svg('desc', { id: `${id}-d` }, `${points.length} scores, from ${points[0].score} on ${day(points[0].at)} to ${last.score} on ${day(last.at)}.`));
  for (const [from, name] of bands) {
    root.append(svg('line', { x1: left, x2: width - right, y1: y(from), y2: y(from), class: 'grid' }));
    root.append(svg('text', { x: left - 6, y: y(from) + 4, class: 'scale' }, from));
    if (!small) root.append(svg('text', { x: width - right + 10, y: y(from) - 4, class: 'band' }, name));
  }
  root.append(svg('polyline', { points: points.map((p) => `${x(p.at)},${y(p.score)}`).join(' '), class: 'line' }));
  for (const p of points) {
    const dot = svg('circle', { cx: x(p.at), cy: y(p.score), r: 4, class: 'dot' });
    dot.append(svg('title', {}, `${day(p.at)}: ${p.score}`));
    root.append(dot);
  }
  root.append(svg('text', { x: left, y: height - 10, class: 'from' }, day(points[0].at)));
  if (points.length > 1) root.append(svg('text', { x: width - right, y: height - 10, class: 'to' }, day(last.at)));
  return root;
}

const day = (d) => d.toLocaleDateString('en', { year: 'numeric', month: 'short', day: 'numeric', timeZone: 'UTC' });

const name = (p) => [...(p.name?.[0]?.given ?? []), p.name?.[0]?.family].filter(Boolean).join(' ');

/** What one access token opens of one patient. A refusal of a whole kind is shown as one. */
export async function look(fhir, bearer, patient) {
  const about = encodeURIComponent(patient);
  const count = (target) => all(fhir, bearer, target).then((list) => list, (e) => { if (e.status === 403) return null; throw e; });
  const [person, scores, problems, documents, screens] = await Promise.all([
    ask(fhir, bearer, `Patient/${about}`).catch((e) => { if (e.status === 404 || e.status === 403) return null; throw e; }),
    count(`Observation?patient=${about}&code=${encodeURIComponent(`${loinc}|44261-6`)}&_sort=date&_count=100`),
    count(`Condition?patient=${about}&_count=100&_elements=code`),
    count(`DocumentReference?patient=${about}&_count=100&_elements=type`),
    count(`Observation?patient=${about}&code=${encodeURIComponent(`${loinc}|3879-4`)}&_count=100&_elements=code`),
  ]);
  const kept = (code) => documents?.filter((d) => d.type?.coding?.some((c) => c.system === kinds && c.code === code)).length ?? null;
  return {
    person,
    points: (scores ?? []).filter((o) => o.valueQuantity && o.effectiveDateTime).map((o) => ({ at: new Date(o.effectiveDateTime), score: o.valueQuantity.value })),
    counts: [
      ['PHQ-9 scores', scores?.length ?? null], ['Diagnoses', problems?.length ?? null], ['Notes and documents', documents?.length ?? null],
      ['of these psychotherapy notes', kept('psychotherapy-note')], ['of these SUD counseling notes', kept('sud-counseling-note')], ['Drug screens', screens?.length ?? null],
    ],
  };
}

/** What look found, for people. */
export function picture(seen, id, small) {
  const out = document.createDocumentFragment();
  out.append(element('p', { class: 'person' }, seen.person ? element('strong', {}, name(seen.person)) : 'There is no such patient.', seen.person?.birthDate ? `, born ${seen.person.birthDate}` : ''));
  out.append(seen.points.length ? chart(seen.points, id, small) : element('p', { class: 'nothing' }, 'No PHQ-9.'));
  const list = element('dl', { class: 'counts' });
  for (const [what, n] of seen.counts) list.append(element('div', {}, element('dt', {}, what), element('dd', { 'data-count': what }, n === null ? 'refused' : String(n))));
  out.append(list);
  return out;
}
