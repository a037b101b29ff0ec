-- +goose Up

-- What the provisions of one patient's consents permit and deny a caller of one
-- record: bits of kinds, and the Consents whose permits are among those wanted. It is a
-- function so that its plan is made once for a connection and not for each of the statements
-- that ask: as part of them it takes longer to plan than a page takes to read.
-- Those who call it say how it is planned.
-- The criteria of a provision that the record says nothing about are NULL: not true, which
-- a permit asks for, and not false, which keeps a denial away. 26 and 42 are Composition and
-- DocumentReference, the types of which a Consent may name kinds.
-- +goose StatementBegin
CREATE FUNCTION record.consent_effect(practice integer, whose text, of_program text, kinds integer, wanted integer, why text, moment timestamptz, names text[],
  of_labels integer, of_type smallint, of_codes bigint[], lo timestamptz, hi timestamptz, me bigint, maker text, refers bigint[],
  OUT permits smallint, OUT denies smallint, OUT consents text[])
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $b$
BEGIN
  WITH matching AS MATERIALIZED (
    SELECT g.source, g.consent, g.node, g.ancestors, g.about, g.permits, g.sure, c.yes
    FROM record.consent_grant g CROSS JOIN LATERAL (SELECT
      (g.types IS NULL AND g.documents IS NULL OR COALESCE(of_type = ANY (g.types), false) OR CASE WHEN of_type IN (26, 42) AND g.documents IS NOT NULL THEN of_codes && g.documents ELSE false END)
      AND CASE WHEN g.label_any <> 0 AND of_labels & g.label_any = 0 THEN false WHEN of_labels & ~g.label_within = 0 THEN true END
      AND CASE WHEN g.codes IS NULL THEN true ELSE of_codes && g.codes END
      AND CASE WHEN g.data_starts IS NULL AND g.data_ends IS NULL THEN true WHEN lo IS NULL THEN NULL
        WHEN hi <= g.data_starts OR lo >= g.data_ends THEN false
        WHEN COALESCE(lo >= g.data_starts, true) AND COALESCE(hi <= g.data_ends, true) THEN true END
      AND CASE WHEN NOT g.by_data THEN true WHEN me IS NULL THEN NULL
        WHEN me = ANY (g.instances) OR maker = ANY (g.authors) OR refers && g.dependents OR g.related IS NOT NULL AND EXISTS (
          SELECT FROM record.consent_related f WHERE f.tenant = g.tenant AND f.target = me AND f.instance = ANY (g.related)) THEN true
        WHEN refers && g.authored OR refers IS NULL AND (g.dependents IS NOT NULL OR g.authored IS NOT NULL) THEN NULL ELSE false END
      AS yes OFFSET 0) AS c
    WHERE g.tenant = practice AND g.patient = whose AND (g.about & kinds <> 0 OR g.about = 0) -- 0: of no one kind, an ancestor perhaps
      AND (g.purposes IS NULL OR why = ANY (g.purposes)) AND (g.starts IS NULL OR g.starts <= moment) AND (g.ends IS NULL OR g.ends > moment)
      AND (g.programs IS NULL OR of_program = ANY (g.programs)) AND (g.recipients IS NULL OR g.recipients && names) AND c.yes IS NOT FALSE
  ), matched AS MATERIALIZED (
    SELECT m.*, m.sure AND m.yes IS TRUE AND (cardinality(m.ancestors) = 0 OR (SELECT count(*) FROM matching a
      WHERE a.source = m.source AND a.node = ANY (m.ancestors) AND a.yes IS TRUE) = cardinality(m.ancestors)) AS certain
    FROM matching m
    WHERE cardinality(m.ancestors) = 0 OR (SELECT count(*) FROM matching a WHERE a.source = m.source AND a.node = ANY (m.ancestors)) = cardinality(m.ancestors)
  )
  -- Of the provisions that match, a permit permits if that is certain, and a denial
  -- denies unless a provision below it certainly matches.
  SELECT COALESCE(bit_or(d.about) FILTER (WHERE d.permits AND d.certain), 0),
    COALESCE(bit_or(d.about) FILTER (WHERE NOT d.permits AND NOT EXISTS (
      SELECT FROM matched b WHERE b.source = d.source AND b.certain AND b.ancestors[cardinality(b.ancestors)] = d.node)), 0),
    COALESCE(array_agg(DISTINCT d.consent) FILTER (WHERE d.permits AND d.certain AND d.about & wanted <> 0), '{}')
  INTO permits, denies, consents FROM matched d;
END
$b$;
-- +goose StatementEnd

-- On which Consents the disclosure of a record of one patient rests; NULL if they
-- do not permit it. For each of its programs (or for the record, if it has none), consents of every
-- kind that it asks for must permit it, and none of these kinds may forbid it. needs are lists of kinds, one behind
-- the other, each with an entry for every combination of sources: first without a program, then with one; 0 asks for nothing.
-- +goose StatementBegin
CREATE FUNCTION record.consents(practice integer, whose text, kinds integer, needs smallint[], sources integer, of_programs text[], why text, moment timestamptz, names text[],
  of_class smallint, of_type smallint, of_codes bigint[], lo timestamptz, hi timestamptz, me bigint, maker text, refers bigint[])
RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan AS $b$
DECLARE
  of_labels integer;
  entry integer;
  need integer;
  asked integer := 0;
  of_program text;
  s record;
  found_on text[] := '{}';
BEGIN
  IF cardinality(needs) = 0 OR NOT EXISTS (SELECT FROM record.consent_grant g WHERE g.tenant = practice AND g.patient = whose AND g.permits AND g.sure) THEN
    RETURN NULL;
  END IF;
  SELECT c.labels INTO of_labels FROM record.label_class c WHERE c.id = of_class;
  IF of_labels IS NULL THEN
    RETURN NULL;
  END IF;
  entry := 1 + (of_labels & sources) + CASE WHEN cardinality(of_programs) > 0 THEN sources + 1 ELSE 0 END;
  FOR i IN 0 .. cardinality(needs) / (2 * (sources + 1)) - 1 LOOP
    asked := asked | needs[i * 2 * (sources + 1) + entry];
  END LOOP;
  FOREACH of_program IN ARRAY CASE WHEN cardinality(of_programs) > 0 THEN of_programs ELSE '{""}' END LOOP
    SELECT e.permits, e.denies, e.consents INTO s FROM record.consent_effect(practice, whose, of_program, kinds, asked, why, moment, names,
      of_labels, of_type, of_codes, lo, hi, me, maker, refers) e;
    IF s.denies & asked <> 0 THEN
      RETURN NULL;
    END IF;
    FOR i IN 0 .. cardinality(needs) / (2 * (sources + 1)) - 1 LOOP
      need := needs[i * 2 * (sources + 1) + entry];
      IF need <> 0 AND s.permits & need = 0 THEN
        RETURN NULL;
      END IF;
    END LOOP;
    found_on := found_on || s.consents;
  END LOOP;
  RETURN ARRAY(SELECT DISTINCT c FROM unnest(found_on) AS c ORDER BY 1);
END
$b$;
-- +goose StatementEnd

-- Whether no restriction that some of these patients asked for bars the record.
-- +goose StatementBegin
CREATE FUNCTION record.unrestricted(practice integer, patients text[], kinds integer, why text, moment timestamptz, names text[],
  of_class smallint, of_type smallint, of_codes bigint[], lo timestamptz, hi timestamptz, me bigint, maker text, refers bigint[])
RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan AS $b$
BEGIN
  RETURN (SELECT COALESCE(bool_and(s.denies & kinds = 0), false)
    FROM record.label_class l, unnest(patients) AS p(patient),
      LATERAL record.consent_effect(practice, p.patient, '', kinds, 0, why, moment, names, l.labels, of_type, of_codes, lo, hi, me, maker, refers) AS s
    WHERE l.id = of_class);
END
$b$;
-- +goose StatementEnd

-- Whether the caller stands in the relation to each of these patients: see the kinds of relations in the store.
-- +goose StatementBegin
CREATE FUNCTION record.related(practice integer, relation integer, caller text, moment timestamptz, patients text[])
RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE SET plan_cache_mode = force_generic_plan AS $b$
BEGIN
  RETURN NOT EXISTS (SELECT FROM unnest(patients) AS p(patient) WHERE NOT CASE relation
    WHEN 3 THEN EXISTS (SELECT FROM record.supervision s JOIN record.relation r ON r.tenant = s.tenant AND r.member = s.supervisee AND r.kind = 1
        AND (r.starts IS NULL OR r.starts <= moment) AND (r.ends IS NULL OR r.ends > moment)
      WHERE s.tenant = practice AND s.supervisor = caller AND r.patient = p.patient AND (s.starts IS NULL OR s.starts <= moment) AND (s.ends IS NULL OR s.ends > moment))
    WHEN 4 THEN EXISTS (SELECT FROM record.emergency r
      WHERE r.tenant = practice AND r.member = caller AND r.patient = p.patient AND (r.starts IS NULL OR r.starts <= moment) AND (r.ends IS NULL OR r.ends > moment))
    ELSE EXISTS (SELECT FROM record.relation r
      WHERE r.tenant = practice AND r.kind = relation AND r.member = caller AND r.patient = p.patient AND (r.starts IS NULL OR r.starts <= moment) AND (r.ends IS NULL OR r.ends > moment))
    END);
END
$b$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION record.related, record.unrestricted, record.consents, record.consent_effect;
