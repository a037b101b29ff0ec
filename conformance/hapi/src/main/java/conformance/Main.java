package conformance;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.api.Constants;
import ca.uhn.fhir.rest.api.MethodOutcome;
import ca.uhn.fhir.rest.api.PreferReturnEnum;
import ca.uhn.fhir.rest.api.SearchStyleEnum;
import ca.uhn.fhir.rest.api.SummaryEnum;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.client.api.ServerValidationModeEnum;
import ca.uhn.fhir.rest.client.interceptor.AdditionalRequestHeadersInterceptor;
import ca.uhn.fhir.rest.client.interceptor.BearerTokenAuthInterceptor;
import ca.uhn.fhir.rest.gclient.DateClientParam;
import ca.uhn.fhir.rest.gclient.QuantityClientParam;
import ca.uhn.fhir.rest.gclient.TokenClientParam;
import ca.uhn.fhir.rest.server.exceptions.AuthenticationException;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import ca.uhn.fhir.rest.server.exceptions.ForbiddenOperationException;
import ca.uhn.fhir.rest.server.exceptions.InvalidRequestException;
import ca.uhn.fhir.rest.server.exceptions.NotModifiedException;
import ca.uhn.fhir.rest.server.exceptions.PreconditionFailedException;
import ca.uhn.fhir.rest.server.exceptions.ResourceGoneException;
import ca.uhn.fhir.rest.server.exceptions.ResourceNotFoundException;
import ca.uhn.fhir.rest.server.exceptions.UnprocessableEntityException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.Bundle.BundleType;
import org.hl7.fhir.r4.model.Bundle.HTTPVerb;
import org.hl7.fhir.r4.model.CapabilityStatement;
import org.hl7.fhir.r4.model.CodeableConcept;
import org.hl7.fhir.r4.model.Coding;
import org.hl7.fhir.r4.model.DateTimeType;
import org.hl7.fhir.r4.model.DocumentReference;
import org.hl7.fhir.r4.model.Encounter;
import org.hl7.fhir.r4.model.Enumerations.DocumentReferenceStatus;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.IntegerType;
import org.hl7.fhir.r4.model.Meta;
import org.hl7.fhir.r4.model.Observation;
import org.hl7.fhir.r4.model.Observation.ObservationStatus;
import org.hl7.fhir.r4.model.OperationOutcome;
import org.hl7.fhir.r4.model.Parameters;
import org.hl7.fhir.r4.model.Patient;
import org.hl7.fhir.r4.model.Quantity;
import org.hl7.fhir.r4.model.Reference;
import org.hl7.fhir.r4.model.Resource;

/** What the HAPI FHIR client expects of a server, asked of a running one. */
public final class Main {
  private static final String SYSTEM = "https://example.org/conformance";
  private static final String RUN = "hapi-" + System.currentTimeMillis();
  private static final String PAGES = RUN + "-pages";
  private static final FhirContext R4 = FhirContext.forR4();

  private final String base;
  private final JsonNode tokens;
  private final IGenericClient therapist;
  private final IGenericClient colleague;
  private final String nora;
  private int passed;
  private int failed;

  private Main(String base, Path personas) throws IOException {
    this.base = base;
    tokens = new ObjectMapper().readTree(Files.readString(personas));
    therapist = as("therapist");
    colleague = as("colleague");
    nora = find("Patient").where(Patient.NAME.matches().value("Bergstrom")).returnBundle(Bundle.class).execute().getEntryFirstRep().getResource().getIdElement().getIdPart();
  }

  /** Arguments: base URL and file of tokens. */
  public static void main(String[] args) throws Exception {
    // The client reads the capability statement before its first request, as it does by default.
    R4.getRestfulClientFactory().setServerValidationMode(ServerValidationModeEnum.ONCE);
    R4.getRestfulClientFactory().setSocketTimeout(30_000);
    Main m = new Main(args[0], Path.of(args[1]));
    m.reading();
    m.writing();
    m.conditions();
    m.searching();
    m.bundles();
    m.operations();
    m.refusals();
    System.out.println(m.passed + " passed, " + m.failed + " failed");
    System.exit(m.failed == 0 ? 0 : 1);
  }

  private interface Check {
    void run() throws Exception;
  }

  private void check(String name, Check c) {
    try {
      c.run();
      passed++;
      System.out.println("ok - " + name);
    } catch (Exception | AssertionError e) {
      failed++;
      System.out.println("not ok - " + name + ": " + e.getClass().getSimpleName() + " " + String.valueOf(e.getMessage()).replaceAll("\\s+", " "));
    }
  }

  private static void equal(Object got, Object want) {
    if (!Objects.equals(got, want)) {
      throw new AssertionError("got " + got + ", want " + want);
    }
  }

  /** Fails unless the call is refused in that way with an OperationOutcome of that code; gives the outcome as JSON. */
  private static String refused(Class<? extends BaseServerResponseException> kind, String code, Callable<?> call) throws Exception {
    try {
      call.call();
    } catch (BaseServerResponseException e) {
      if (!kind.isInstance(e)) {
        throw e;
      }
      OperationOutcome o = (OperationOutcome) Objects.requireNonNull(e.getOperationOutcome(), "no OperationOutcome");
      if (code != null) {
        equal(o.getIssueFirstRep().getCode().toCode(), code);
      }
      return R4.newJsonParser().encodeResourceToString(o);
    }
    throw new AssertionError("succeeded, want " + kind.getSimpleName());
  }

  private IGenericClient with(String token) {
    IGenericClient c = R4.newRestfulGenericClient(base);
    if (token != null) {
      c.registerInterceptor(new BearerTokenAuthInterceptor(token));
    }
    return c;
  }

  private IGenericClient as(String who) {
    return with(tokens.get(who).asText());
  }

  private IGenericClient as(String who, String header, String value) {
    IGenericClient c = as(who);
    AdditionalRequestHeadersInterceptor more = new AdditionalRequestHeadersInterceptor();
    more.addHeaderValue(header, value);
    c.registerInterceptor(more);
    return c;
  }

  private Observation observation(String key) {
    Observation o = new Observation();
    o.setStatus(ObservationStatus.FINAL).setSubject(new Reference("Patient/" + nora)).setEffective(new DateTimeType("2026-01-05"));
    o.addIdentifier().setSystem(SYSTEM).setValue(RUN + "-" + key);
    o.setCode(new CodeableConcept(new Coding(SYSTEM, RUN, null)));
    return o;
  }

  /** An Observation without a code. An empty one would not be sent at all. */
  private static Observation incomplete() {
    return new Observation().setStatus(ObservationStatus.FINAL);
  }

  private DocumentReference note(String key) throws IOException {
    String claims = tokens.get("therapist").asText().split("\\.")[1];
    String author = new ObjectMapper().readTree(Base64.getUrlDecoder().decode(claims)).get("fhirUser").asText();
    DocumentReference d = new DocumentReference();
    d.setStatus(DocumentReferenceStatus.CURRENT).setSubject(new Reference("Patient/" + nora)).addAuthor(new Reference(author));
    d.addIdentifier().setSystem(SYSTEM).setValue(RUN + "-" + key);
    d.setType(new CodeableConcept(new Coding("https://cloister.health/fhir/CodeSystem/note-kind", "psychotherapy-note", null)));
    d.addContent().getAttachment().setContentType("text/plain").setData(new byte[] {'x'});
    return d;
  }

  private <T extends Resource> T create(T r) {
    @SuppressWarnings("unchecked")
    T made = (T) therapist.create().resource(r).prefer(PreferReturnEnum.REPRESENTATION).execute().getResource();
    return made;
  }

  private ca.uhn.fhir.rest.gclient.IQuery<?> find(String type) {
    return therapist.search().forResource(type);
  }

  private Bundle identified(String key) {
    return find("Observation").where(Observation.IDENTIFIER.exactly().systemAndIdentifier(SYSTEM, RUN + "-" + key)).returnBundle(Bundle.class).execute();
  }

  private static List<String> ids(Bundle b) {
    return b.getEntry().stream().map(e -> e.getResource().getIdElement().getIdPart()).collect(Collectors.toList());
  }

  private static String days(Bundle b) {
    return b.getEntry().stream()
        .map(e -> ((Observation) e.getResource()).getEffectiveDateTimeType().getValueAsString())
        .map(s -> s.substring(s.length() - 1))
        .collect(Collectors.joining());
  }

  private void reading() {
    check("capability statement", () -> {
      CapabilityStatement c = therapist.capabilities().ofType(CapabilityStatement.class).execute();
      equal(c.getFhirVersion().toCode(), "4.0.1");
    });
    check("read, vread, conditional read", () -> {
      Observation made = create(observation("read"));
      String id = made.getIdElement().getIdPart();
      Observation read = therapist.read().resource(Observation.class).withId(id).execute();
      equal(read.equalsDeep(made), true);
      equal(read.getMeta().getVersionId(), "1");
      equal(therapist.read().resource(Observation.class).withIdAndVersion(id, "1").execute().getStatus(), ObservationStatus.FINAL);
      refused(ResourceNotFoundException.class, "not-found", () -> therapist.read().resource(Observation.class).withIdAndVersion(id, "9").execute());
      try {
        therapist.read().resource(Observation.class).withId(id).ifVersionMatches("1").throwNotModifiedException().execute();
        throw new AssertionError("the version that the client has was sent again");
      } catch (NotModifiedException e) {
        equal(e.getStatusCode(), 304);
      }
    });
    check("read with elements and summary", () -> {
      Observation o = therapist.read().resource(Observation.class).withId(create(observation("elements")).getIdElement().getIdPart()).elementsSubset("status").execute();
      equal(o.hasEffective(), false);
      Patient p = therapist.read().resource(Patient.class).withId(nora).summaryMode(SummaryEnum.TEXT).execute();
      equal(p.hasBirthDate(), false);
      equal(p.hasText(), true);
    });
  }

  private void writing() {
    check("create and update", () -> {
      MethodOutcome made = therapist.create().resource(observation("crud")).prefer(PreferReturnEnum.REPRESENTATION).execute();
      equal(made.getCreated(), true);
      equal(made.getId().getVersionIdPart(), "1");
      Observation o = (Observation) made.getResource();
      MethodOutcome changed = therapist.update().resource(o.setStatus(ObservationStatus.AMENDED)).execute();
      equal(changed.getId().getVersionIdPart(), "2");
    });
    check("Prefer: return", () -> {
      MethodOutcome m = therapist.create().resource(observation("minimal")).prefer(PreferReturnEnum.MINIMAL).execute();
      equal(m.getId().hasIdPart(), true);
      equal(m.getResource(), null);
      m = therapist.create().resource(observation("outcome")).prefer(PreferReturnEnum.OPERATION_OUTCOME).execute();
      equal(m.getOperationOutcome() instanceof OperationOutcome, true);
    });
    check("update with If-Match", () -> {
      Observation made = create(observation("match"));
      String id = made.getIdElement().getIdPart();
      made.setId("Observation/" + id + "/_history/1"); // sends If-Match
      equal(therapist.update().resource(made).withId(made.getIdElement()).execute().getId().getVersionIdPart(), "2");
      IGenericClient stale = as("therapist", "If-Match", "W/\"1\"");
      made.setId("Observation/" + id);
      refused(PreconditionFailedException.class, "conflict", () -> stale.update().resource(made).execute());
    });
    check("update as create", () -> {
      Observation o = observation("own");
      o.setId(RUN);
      equal(therapist.update().resource(o).execute().getCreated(), true);
    });
    check("JSON Patch", () -> {
      IdType id = create(observation("patch")).getIdElement().toUnqualifiedVersionless();
      Observation o = (Observation) therapist.patch()
          .withBody("[{\"op\":\"test\",\"path\":\"/status\",\"value\":\"final\"},{\"op\":\"replace\",\"path\":\"/status\",\"value\":\"amended\"}]")
          .withId(id).prefer(PreferReturnEnum.REPRESENTATION).execute().getResource();
      equal(o.getStatus(), ObservationStatus.AMENDED);
      refused(UnprocessableEntityException.class, null, () -> therapist.patch().withBody("[{\"op\":\"remove\",\"path\":\"/status\"}]").withId(id).execute());
      equal(therapist.read().resource(Observation.class).withId(id).execute().getMeta().getVersionId(), "2");
    });
    check("FHIRPath Patch", () -> {
      IdType id = create(observation("fhirpath-patch")).getIdElement().toUnqualifiedVersionless();
      Parameters p = new Parameters();
      Parameters.ParametersParameterComponent op = p.addParameter().setName("operation");
      op.addPart().setName("type").setValue(new org.hl7.fhir.r4.model.CodeType("replace"));
      op.addPart().setName("path").setValue(new org.hl7.fhir.r4.model.StringType("Observation.status"));
      op.addPart().setName("value").setValue(new org.hl7.fhir.r4.model.CodeType("amended"));
      Observation o = (Observation) therapist.patch().withFhirPatch(p).withId(id).prefer(PreferReturnEnum.REPRESENTATION).execute().getResource();
      equal(o.getStatus(), ObservationStatus.AMENDED);
    });
    check("delete, and 410 with its history", () -> {
      IdType id = create(note("gone")).getIdElement().toUnqualifiedVersionless();
      therapist.delete().resourceById(id).execute();
      refused(ResourceGoneException.class, "deleted", () -> therapist.read().resource(DocumentReference.class).withId(id).execute());
      Bundle h = therapist.history().onInstance(id).returnBundle(Bundle.class).execute();
      equal(h.getEntry().stream().map(e -> e.getRequest().getMethod()).toList(), List.of(HTTPVerb.DELETE, HTTPVerb.POST));
    });
  }

  private void conditions() {
    TokenClientParam identifier = Observation.IDENTIFIER;
    check("conditional create", () -> {
      Callable<MethodOutcome> once = () -> therapist.create().resource(observation("once")).conditional().where(identifier.exactly().systemAndIdentifier(SYSTEM, RUN + "-once")).execute();
      equal(once.call().getCreated(), true);
      equal(Boolean.TRUE.equals(once.call().getCreated()), false);
      equal(identified("once").getEntry().size(), 1);
      create(observation("once"));
      refused(PreconditionFailedException.class, null, once);
    });
    check("conditional update", () -> {
      Callable<MethodOutcome> put = () -> therapist.update().resource(observation("upsert")).conditional().where(identifier.exactly().systemAndIdentifier(SYSTEM, RUN + "-upsert")).execute();
      MethodOutcome made = put.call();
      equal(made.getCreated(), true);
      equal(put.call().getId().getIdPart(), made.getId().getIdPart());
      create(observation("upsert"));
      refused(PreconditionFailedException.class, null, put);
    });
    check("conditional patch", () -> {
      create(observation("conditional-patch"));
      Observation o = (Observation) therapist.patch().withBody("[{\"op\":\"replace\",\"path\":\"/status\",\"value\":\"amended\"}]").conditional("Observation")
          .where(identifier.exactly().systemAndIdentifier(SYSTEM, RUN + "-conditional-patch")).prefer(PreferReturnEnum.REPRESENTATION).execute().getResource();
      equal(o.getStatus(), ObservationStatus.AMENDED);
    });
    check("conditional delete", () -> {
      IdType id = create(note("conditional")).getIdElement().toUnqualifiedVersionless();
      therapist.delete().resourceConditionalByType("DocumentReference").where(DocumentReference.IDENTIFIER.exactly().systemAndIdentifier(SYSTEM, RUN + "-conditional")).execute();
      refused(ResourceGoneException.class, "deleted", () -> therapist.read().resource(DocumentReference.class).withId(id).execute());
    });
  }

  private void searching() {
    for (int n : new int[] {3, 1, 5, 2, 4}) {
      Observation o = observation("page-" + n);
      o.setCode(new CodeableConcept(new Coding(SYSTEM, PAGES, null))).setEffective(new DateTimeType("2026-01-0" + n));
      create(o.setValue(new Quantity().setValue(10 - n).setUnit("mg").setSystem("http://unitsofmeasure.org").setCode("mg")));
    }
    DateClientParam date = Observation.DATE;
    QuantityClientParam value = Observation.VALUE_QUANTITY;
    TokenClientParam code = Observation.CODE;
    check("search through all pages", () -> {
      List<String> got = new ArrayList<>();
      Bundle page = find("Observation").where(code.exactly().systemAndCode(SYSTEM, PAGES)).sort().ascending(date).count(2).totalMode(ca.uhn.fhir.rest.api.SearchTotalModeEnum.ACCURATE).returnBundle(Bundle.class).execute();
      for (int n = 0; n < 9; n++) {
        equal(page.getTotal(), 5);
        got.add(days(page));
        if (page.getLink(Bundle.LINK_NEXT) == null) {
          break;
        }
        page = therapist.loadPage().next(page).execute();
      }
      equal(got, List.of("12", "34", "5"));
    });
    check("search by POST", () -> equal(find("Observation").where(code.exactly().code(PAGES)).usingStyle(SearchStyleEnum.POST).returnBundle(Bundle.class).execute().getEntry().size(), 5));
    check("sort", () -> {
      equal(days(find("Observation").where(code.exactly().code(PAGES)).sort().descending(date).returnBundle(Bundle.class).execute()), "54321");
      equal(days(find("Observation").where(code.exactly().code(PAGES)).sort().ascending(value).returnBundle(Bundle.class).execute()), "54321");
    });
    check("dates, quantities and missing", () -> {
      equal(days(find("Observation").where(code.exactly().code(PAGES)).and(date.afterOrEquals().day("2026-01-03")).sort().ascending(date).returnBundle(Bundle.class).execute()), "345");
      equal(days(find("Observation").where(code.exactly().code(PAGES)).and(value.greaterThan().number(7).andUnits("http://unitsofmeasure.org", "mg")).sort().ascending(date).returnBundle(Bundle.class).execute()), "12");
      equal(find("Observation").where(code.exactly().code(PAGES)).and(Observation.VALUE_STRING.isMissing(true)).summaryMode(SummaryEnum.COUNT).returnBundle(Bundle.class).execute().getTotal(), 5);
    });
    check("chains", () -> {
      equal(find("Observation").where(code.exactly().code(PAGES)).and(Observation.SUBJECT.hasChainedProperty("Patient", Patient.FAMILY.matches().value("Bergstrom"))).returnBundle(Bundle.class).execute().getEntry().size(), 5);
      equal(ids(find("Patient").where(Patient.ACTIVE.exactly().code("true")).and(new ca.uhn.fhir.rest.gclient.StringClientParam("_has:Observation:patient:code").matches().value(PAGES)).returnBundle(Bundle.class).execute()), List.of(nora));
    });
    check("search by URL", () -> equal(days(therapist.search().byUrl("Observation?code=" + PAGES + "&date=2026-01-02,2026-01-05&_sort=date").returnBundle(Bundle.class).execute()), "25"));
    check("_include and _revinclude", () -> {
      Bundle b = find("Observation").where(code.exactly().code(PAGES)).count(1).include(Observation.INCLUDE_PATIENT).returnBundle(Bundle.class).execute();
      equal(b.getEntry().stream().map(e -> e.getResource().fhirType() + " " + e.getSearch().getMode().toCode()).toList(), List.of("Observation match", "Patient include"));
      b = find("Patient").where(Patient.RES_ID.exactly().code(nora)).revInclude(new ca.uhn.fhir.model.api.Include("Coverage:beneficiary")).returnBundle(Bundle.class).execute();
      equal(b.getEntryFirstRep().getResource().getIdElement().getIdPart(), nora);
    });
    check("history of instance, type and system", () -> {
      Observation made = create(observation("history"));
      therapist.update().resource(made.setStatus(ObservationStatus.AMENDED)).execute();
      String id = made.getIdElement().getIdPart();
      for (Bundle b : List.of(
          therapist.history().onInstance(new IdType("Observation", id)).returnBundle(Bundle.class).execute(),
          therapist.history().onType(Observation.class).returnBundle(Bundle.class).execute(),
          therapist.history().onServer().returnBundle(Bundle.class).execute())) {
        equal(b.getType(), BundleType.HISTORY);
        equal(b.getEntry().stream().filter(e -> e.hasResource() && e.getResource().getIdElement().getIdPart().equals(id)).map(e -> e.getResource().getMeta().getVersionId()).toList(), List.of("2", "1"));
      }
    });
  }

  private void bundles() {
    check("transaction with references between its entries", () -> {
      Bundle b = new Bundle().setType(BundleType.TRANSACTION);
      Encounter e = new Encounter();
      e.setStatus(Encounter.EncounterStatus.FINISHED).setClass_(new Coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", "AMB", null)).setSubject(new Reference("Patient/" + nora));
      String uuid = "urn:uuid:0f9f3b1e-2c58-4c1a-8a55-5b0d2a0f6c11";
      b.addEntry().setResource(observation("transaction").setEncounter(new Reference(uuid))).getRequest().setMethod(HTTPVerb.POST).setUrl("Observation");
      b.addEntry().setFullUrl(uuid).setResource(e).getRequest().setMethod(HTTPVerb.POST).setUrl("Encounter");
      b.addEntry().getRequest().setMethod(HTTPVerb.GET).setUrl("Patient/" + nora);
      Bundle done = therapist.transaction().withBundle(b).execute();
      equal(done.getType(), BundleType.TRANSACTIONRESPONSE);
      equal(done.getEntry().stream().map(x -> x.getResponse().getStatus().substring(0, 3)).toList(), List.of("201", "201", "200"));
      Observation o = (Observation) identified("transaction").getEntryFirstRep().getResource();
      equal(therapist.read().resource(Encounter.class).withUrl(base + "/" + o.getEncounter().getReference()).execute().getStatus(), Encounter.EncounterStatus.FINISHED);
    });
    check("transaction: everything or nothing", () -> {
      Bundle b = new Bundle().setType(BundleType.TRANSACTION);
      b.addEntry().setResource(observation("rolled-back")).getRequest().setMethod(HTTPVerb.POST).setUrl("Observation");
      b.addEntry().setResource(incomplete()).getRequest().setMethod(HTTPVerb.POST).setUrl("Observation");
      refused(UnprocessableEntityException.class, null, () -> therapist.transaction().withBundle(b).execute());
      equal(identified("rolled-back").getEntry().size(), 0);
    });
    check("batch: each entry by itself", () -> {
      Bundle b = new Bundle().setType(BundleType.BATCH);
      b.addEntry().setResource(observation("batch")).getRequest().setMethod(HTTPVerb.POST).setUrl("Observation");
      b.addEntry().setResource(incomplete()).getRequest().setMethod(HTTPVerb.POST).setUrl("Observation");
      b.addEntry().getRequest().setMethod(HTTPVerb.GET).setUrl("Patient/there-is-none");
      Bundle done = therapist.transaction().withBundle(b).execute();
      equal(done.getEntry().stream().map(x -> x.getResponse().getStatus().substring(0, 3)).toList(), List.of("201", "422", "404"));
    });
  }

  private void operations() {
    check("$everything, with paging", () -> {
      Bundle b = therapist.operation().onInstance(new IdType("Patient", nora)).named("$everything")
          .withParameter(Parameters.class, "_count", new IntegerType(50)).useHttpGet().returnResourceType(Bundle.class).execute();
      int n = b.getEntry().size();
      while (b.getLink(Bundle.LINK_NEXT) != null && n < 1000) {
        b = therapist.loadPage().next(b).execute();
        n += b.getEntry().size();
      }
      equal(n > 60, true);
    });
    check("$validate", () -> {
      MethodOutcome m = therapist.validate().resource(observation("x")).execute();
      equal(m.getOperationOutcome() instanceof OperationOutcome, true);
    });
    check("$meta", () -> {
      Meta m = therapist.meta().get(Meta.class).fromResource(new IdType("Patient", nora)).execute();
      equal(m != null, true);
    });
  }

  private void refusals() {
    check("refusals are OperationOutcomes", () -> {
      refused(ResourceNotFoundException.class, "not-found", () -> therapist.read().resource(Patient.class).withId("there-is-none").execute());
      refused(UnprocessableEntityException.class, null, () -> therapist.create().resource(new Observation()).execute());
      refused(AuthenticationException.class, "login", () -> with(null).read().resource(Patient.class).withId(nora).execute());
      refused(AuthenticationException.class, "login", () -> with("x.y.z").read().resource(Patient.class).withId(nora).execute());
      refused(ForbiddenOperationException.class, "forbidden", () -> as("front-desk").search().forResource(DocumentReference.class).returnBundle(Bundle.class).execute());
      refused(InvalidRequestException.class, null, () -> therapist.search().byUrl("Patient?colour=red").returnBundle(Bundle.class).execute());
      Bundle b = as("therapist", Constants.HEADER_PREFER, "handling=lenient").search().byUrl("Patient?colour=red").returnBundle(Bundle.class).execute();
      equal(b.getEntry().stream().anyMatch(e -> e.getSearch().getMode() == Bundle.SearchEntryMode.OUTCOME), true);
    });
    check("two callers, two answers", () -> {
      Bundle mine = find("DocumentReference").where(DocumentReference.PATIENT.hasId(nora)).count(100).returnBundle(Bundle.class).execute();
      String kept = mine.getEntry().stream().map(e -> (DocumentReference) e.getResource())
          .filter(d -> d.getType().getCoding().stream().anyMatch(c -> c.getCode().equals("psychotherapy-note"))).findFirst().orElseThrow().getIdElement().getIdPart();
      equal(colleague.search().forResource(DocumentReference.class).where(DocumentReference.PATIENT.hasId(nora)).returnBundle(Bundle.class).execute().getEntry().size(), 0);
      String hidden = refused(ResourceNotFoundException.class, "not-found", () -> colleague.read().resource(DocumentReference.class).withId(kept).execute());
      String absent = refused(ResourceNotFoundException.class, "not-found", () -> colleague.read().resource(DocumentReference.class).withId("there-is-none").execute());
      equal(hidden, absent);
      List<String> others = ids(as("psychiatrist").search().forResource(DocumentReference.class).where(DocumentReference.PATIENT.hasId(nora)).count(100).returnBundle(Bundle.class).execute());
      equal(!others.isEmpty() && !others.contains(kept), true);
    });
  }
}
