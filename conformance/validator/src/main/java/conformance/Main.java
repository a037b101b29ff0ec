package conformance;

import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** Validates what the server makes: answers, access records, and the resources of its sample clinic. */
public final class Main {
  /** One document and where it came from. */
  private record Document(String name, byte[] json) {}

  private static final ObjectMapper JSON = new ObjectMapper();
  private final Exchange server;
  private final List<Document> documents = new ArrayList<>();
  private int failed;

  private Main(Exchange server) {
    this.server = server;
  }

  /** Arguments: base URL, file of tokens, folder of NDJSON files, folder of the pages, and the US Core package or nothing. */
  public static void main(String[] args) throws Exception {
    Main m = new Main(new Exchange(args[0], Path.of(args[1])));
    Path usCore = args[4].isEmpty() ? null : Path.of(args[4]);
    m.answers();
    m.refusals();
    m.examples(Path.of(args[3]));
    m.lines(Path.of(args[2]));
    m.documents.replaceAll(d -> new Document(d.name(), undeclared(d.json(), usCore == null)));
    m.check(new Validator(usCore, m.named("clinic: Questionnaire"), m.named("definitions: CodeSystem")));
    System.exit(m.failed == 0 ? 0 : 1);
  }

  private void ask(int status, String who, String method, String path, String body, String... headers) throws Exception {
    HttpResponse<byte[]> a = server.send(who, method, path, body, headers);
    String name = method + " " + path.replaceAll("[0-9a-f]{8}-[0-9a-f-]{27}", "{id}").replaceAll("_page=[^&]*", "_page=...")
        + " as " + (who == null || who.contains(".") ? "nobody" : who);
    if (a.statusCode() != status) {
      failed++;
      System.out.println("not ok - " + name + ": " + a.statusCode() + ", want " + status + "\n" + text(a));
    }
    if (a.body().length > 0) {
      documents.add(new Document(name + " (" + status + ")", a.body()));
    }
  }

  private static String text(HttpResponse<byte[]> a) {
    String s = new String(a.body(), StandardCharsets.UTF_8);
    return s.substring(0, Math.min(500, s.length()));
  }

  /** What is answered to those who may. */
  private void answers() throws Exception {
    ask(200, null, "GET", "/metadata", null);
    for (String who : server.personas()) {
      for (String type : List.of("Patient", "Observation", "Practitioner", "DocumentReference")) {
        int status = server.send(who, "GET", "/" + type, null).statusCode();
        ask(status == 403 ? 403 : 200, who, "GET", "/" + type + "?_count=3", null);
      }
    }
    String patient = first("therapist", "/Patient?_count=1");
    String note = first("therapist", "/DocumentReference?_count=1");
    ask(200, "therapist", "GET", "/Observation?patient=" + patient + "&_count=5&_total=accurate", null);
    ask(200, "therapist", "GET", "/Observation?patient=" + patient + "&_summary=count", null);
    ask(200, "therapist", "GET", "/Observation?patient=Patient/there-is-none", null);
    ask(200, "therapist", "GET", "/Observation?colour=red&_count=1", null, "Prefer", "handling=lenient");
    ask(200, "therapist", "GET", "/Observation?_include=Observation:subject&_count=2", null);
    ask(200, "therapist", "GET", "/Patient?_revinclude=Observation:subject&_id=" + patient, null);
    ask(200, "therapist", "GET", "/Patient?_elements=name&_count=2", null);
    for (String summary : List.of("true", "text", "data", "false")) {
      ask(200, "therapist", "GET", "/Patient?_count=2&_summary=" + summary, null);
    }
    ask(200, "therapist", "GET", "/Patient/" + patient + "?_summary=true", null);
    ask(200, "therapist", "GET", "/Patient/" + patient + "/_history", null);
    ask(200, "therapist", "GET", "/Patient/_history?_count=5", null);
    ask(200, "therapist", "GET", "/_history?_count=5", null);
    ask(200, "therapist", "GET", "/Patient/" + patient + "/$everything?_count=50", null);
    ask(200, "therapist", "GET", "/Patient/" + patient + "/$meta", null);
    ask(200, "therapist", "GET", "/Patient/" + patient + "/Observation?_count=5", null);
    ask(200, "therapist", "GET", "/Patient/" + patient + "/*?_count=20", null);
    ask(200, "therapist", "GET", "/Encounter/" + first("therapist", "/Encounter?_count=1") + "/$everything", null);
    ask(200, "therapist", "GET", "?_type=Patient,Observation&_count=5", null);
    ask(200, "therapist", "GET", "/Encounter?_count=5&_include=*&_revinclude=*", null);
    ask(200, "therapist", "POST", "/Patient/$validate", "{\"resourceType\":\"Patient\",\"meta\":{\"profile\":[\"http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient\"]}}");
    ask(200, "therapist", "GET", "/ValueSet/$expand?url=https://cloister.health/fhir/ValueSet/note-kind", null);
    ask(200, "therapist", "GET", "/CodeSystem/$lookup?system=https://cloister.health/fhir/CodeSystem/note-kind&code=psychotherapy-note", null);
    ask(200, "therapist", "POST", "/Patient/$validate", "{\"resourceType\":\"Patient\"}");
    ask(200, "therapist", "GET", "/DocumentReference/" + note, null);
    ask(200, "therapist", "POST", "", "{\"resourceType\":\"Bundle\",\"type\":\"batch\",\"entry\":["
        + get("Patient/" + patient) + "," + get("Patient?_count=2") + "," + get("Patient/there-is-none") + ","
        + get("Patient/" + patient + "/_history/1") + "," + get("Patient?colour=red") + ","
        + post("Observation", observation(patient)) + "," + post("Observation", "{\"resourceType\":\"Observation\"}") + "]}");
    ask(200, "therapist", "POST", "", "{\"resourceType\":\"Bundle\",\"type\":\"transaction\",\"entry\":["
        + post("Observation", observation(patient)) + "," + get("Patient/" + patient) + "," + get("Observation?_count=1") + "]}");
    ask(201, "therapist", "POST", "/Observation", observation(patient), "Prefer", "return=OperationOutcome");
    deleted(patient);
  }

  /** A history with a deletion in it. */
  private void deleted(String patient) throws Exception {
    JsonNode who = server.json("therapist", "/DocumentReference?_count=50");
    String author = null;
    for (JsonNode e : who.path("entry")) {
      JsonNode r = e.path("resource");
      if (r.path("type").path("coding").path(0).path("code").asText().equals("psychotherapy-note")) {
        author = r.path("author").path(0).path("reference").asText();
      }
    }
    String note = "{\"resourceType\":\"DocumentReference\",\"status\":\"current\",\"subject\":{\"reference\":\"Patient/" + patient
        + "\"},\"author\":[{\"reference\":\"" + author + "\"}],\"type\":{\"coding\":[{\"system\":\"https://cloister.health/fhir/CodeSystem/note-kind\",\"code\":\"psychotherapy-note\"}]},"
        + "\"content\":[{\"attachment\":{\"contentType\":\"text/plain\",\"data\":\"eA==\"}}]}";
    HttpResponse<byte[]> made = server.send("therapist", "POST", "/DocumentReference", note);
    String at = made.headers().firstValue("Location").orElse("").replaceAll(".*(/DocumentReference/[^/]*).*", "$1");
    ask(204, "therapist", "DELETE", at, null);
    ask(410, "therapist", "GET", at, null);
    ask(200, "therapist", "GET", at + "/_history", null);
  }

  /** One refusal of each kind. */
  private void refusals() throws Exception {
    String patient = first("therapist", "/Patient?_count=1");
    String at = "/Patient/" + patient;
    ask(401, null, "GET", "/Patient", null);
    ask(401, "not.a.token", "GET", "/Patient", null);
    ask(403, "front-desk", "GET", "/DocumentReference", null);
    ask(404, "therapist", "GET", "/Patient/there-is-none", null);
    ask(404, "therapist", "GET", "/Nothing", null);
    ask(405, "therapist", "PUT", "", "{}");
    ask(406, "therapist", "GET", at, null, "Accept", "application/fhir+xml");
    ask(400, "therapist", "GET", "/Patient?colour=red", null);
    ask(400, "therapist", "GET", "/Patient?birthdate=yesterday", null);
    ask(400, "therapist", "GET", "/Patient?_page=x", null);
    ask(415, "therapist", "POST", "/Observation", "x", "Content-Type", "text/plain");
    ask(400, "therapist", "POST", "/Observation", "{\"resourceType\":\"Observation\",");
    ask(422, "therapist", "POST", "/Observation", "{\"resourceType\":\"Observation\",\"status\":\"wrong\"}");
    ask(412, "therapist", "PUT", at, "{\"resourceType\":\"Patient\",\"id\":\"" + patient + "\"}", "If-Match", "W/\"999\"");
    ask(400, "therapist", "POST", "", "{\"resourceType\":\"Bundle\",\"type\":\"collection\"}");
    ask(422, "therapist", "POST", "", "{\"resourceType\":\"Bundle\",\"type\":\"transaction\",\"entry\":["
        + post("Observation", "{\"resourceType\":\"Observation\"}") + "]}");
  }

  private String first(String who, String path) throws Exception {
    return server.json(who, path).path("entry").path(0).path("resource").path("id").asText();
  }

  private static String observation(String patient) {
    return "{\"resourceType\":\"Observation\",\"status\":\"final\",\"code\":{\"text\":\"made for validation\"},\"subject\":{\"reference\":\"Patient/"
        + patient + "\"}}";
  }

  private static String get(String url) {
    return "{\"request\":{\"method\":\"GET\",\"url\":\"" + url + "\"}}";
  }

  private static String post(String url, String resource) {
    return "{\"resource\":" + resource + ",\"request\":{\"method\":\"POST\",\"url\":\"" + url + "\"}}";
  }

  /** The requests in the pages, which their tests hold to the statuses that stand there. */
  private void examples(Path docs) throws Exception {
    Map<String, String> visible = new TreeMap<>();
    List<Path> pages;
    try (var all = Files.walk(docs)) {
      pages = all.filter(f -> f.toString().endsWith(".md")).sorted().toList();
    }
    for (Path page : pages) {
      String[] blocks = Files.readString(page).split("```http\n");
      for (int i = 1; i < blocks.length; i++) {
        String[] parts = blocks[i].split("\n```", 2)[0].split("\n\n", 2);
        String[] lines = parts[0].split("\n");
        String[] first = lines[0].split(" "); // METHOD path as persona → status
        String who = first[3].equals("nobody") ? null : first[3];
        if (lines[0].contains("{Patient}") || parts.length > 1 && parts[1].contains("{Patient}")) {
          visible.put(who, visible.containsKey(who) ? visible.get(who) : first(who, "/Patient?_count=1"));
        }
        String patient = who == null ? "" : visible.getOrDefault(who, "");
        List<String> headers = new ArrayList<>();
        for (int n = 1; n < lines.length; n++) {
          headers.addAll(List.of(lines[n].split(": ", 2)));
        }
        String path = first[1].replace("{Patient}", patient).replace("|", "%7C");
        if (!path.startsWith("/fhir")) {
          continue; // no FHIR
        }
        HttpResponse<byte[]> a = server.send(who, first[0], path.substring("/fhir".length()), parts.length > 1 ? parts[1].replace("{Patient}", patient) : null, headers.toArray(new String[0]));
        if (text(a).contains("\"resourceType\"")) {
          documents.add(new Document("docs/" + docs.relativize(page) + ": " + lines[0].replaceAll(" →.*", ""), a.body()));
        }
      }
    }
  }

  /** The resources of NDJSON files, named by file and type. */
  private void lines(Path dir) throws Exception {
    List<Path> files;
    try (var all = Files.list(dir)) {
      files = all.filter(f -> f.toString().endsWith(".ndjson")).sorted().collect(Collectors.toList());
    }
    for (Path f : files) {
      for (String line : Files.readAllLines(f)) {
        String type = line.replaceAll("^\\{\"resourceType\":\"([A-Za-z]+)\".*$", "$1");
        documents.add(new Document(f.getFileName().toString().replace(".ndjson", "") + ": " + type, line.getBytes(StandardCharsets.UTF_8)));
      }
    }
  }

  /**
   * The document without the US Core profiles that it declares, where they are not there to check against; and always
   * without those of a subset: what was asked for is not all that the profile requires, and the resource says so itself.
   */
  private static byte[] undeclared(byte[] json, boolean all) {
    try {
      JsonNode root = JSON.readTree(json);
      for (JsonNode parent : root.findParents("profile")) {
        boolean subset = parent.path("tag").findValuesAsText("code").contains("SUBSETTED");
        if ((all || subset) && parent.path("profile").path(0).asText().startsWith("http://hl7.org/fhir/us/core/")) {
          ((ObjectNode) parent).remove("profile");
        }
      }
      for (JsonNode parent : root.findParents("security")) {
        unmarked(parent);
      }
      for (JsonNode parent : root.findParents("meta")) {
        if (parent.get("meta").isEmpty()) {
          ((ObjectNode) parent).remove("meta");
        }
      }
      return JSON.writeValueAsBytes(root);
    } catch (IOException e) {
      return json; // the validator says what is wrong with it
    }
  }

  /**
   * Takes the mark of a notice of 42 CFR 2.32 out of meta.security. It is a code of HL7 Terminology's v3-ActCode, and not yet of
   * the edition of 2018 that comes with R4 and that the validator knows: what refers to a resource with it would match no profile.
   */
  private static void unmarked(JsonNode meta) {
    if (!(meta.get("security") instanceof ArrayNode labels)) {
      return;
    }
    for (int i = labels.size() - 1; i >= 0; i--) {
      if (labels.get(i).path("system").asText().equals("http://terminology.hl7.org/CodeSystem/v3-ActCode")
          && labels.get(i).path("code").asText().equals("RedisclosureProhibitionMark")) {
        labels.remove(i);
      }
    }
    if (labels.isEmpty()) {
      ((ObjectNode) meta).remove("security");
    }
  }

  private List<byte[]> named(String name) {
    return documents.stream().filter(d -> d.name().equals(name)).map(Document::json).toList();
  }

  /** A kind of message, and how often and first where it came. */
  private static final class Kind {
    int n;
    String first;
  }

  private void check(Validator v) {
    Map<String, int[]> passed = new TreeMap<>();
    Map<String, Kind> warnings = new TreeMap<>();
    v.validate("{\"resourceType\":\"Basic\"}".getBytes(StandardCharsets.UTF_8)); // loads what all need
    documents.parallelStream().forEach(d -> {
      List<SingleValidationMessage> found = v.validate(d.json());
      synchronized (this) {
        int[] n = passed.computeIfAbsent(d.name(), x -> new int[2]);
        n[0]++;
        boolean bad = false;
        for (SingleValidationMessage s : found) {
          String where = d.name() + " " + s.getLocationString();
          boolean fault = s.getSeverity() == ResultSeverityEnum.ERROR || s.getSeverity() == ResultSeverityEnum.FATAL;
          if (fault && !unavailable(s.getMessage())) {
            bad = true;
            if (n[1] < 3) {
              System.out.println("not ok - " + where + ": " + s.getMessage());
            }
          } else if (fault || s.getSeverity() == ResultSeverityEnum.WARNING) {
            Kind k = warnings.computeIfAbsent(general(s), x -> new Kind());
            k.n++;
            k.first = k.first == null ? where : k.first;
          }
        }
        if (bad) {
          n[1]++;
          failed++;
        }
      }
    });
    passed.forEach((name, n) -> {
      if (n[1] == 0) {
        System.out.println("ok - " + name + (n[0] > 1 ? " x " + n[0] : ""));
      }
    });
    warnings.forEach((text, k) -> System.out.println("warning x " + k.n + ": " + text + " (first: " + k.first + ")"));
    System.out.println(documents.size() - failed + " passed, " + failed + " failed");
  }

  /**
   * IHE's guide to audit logs is in no registry of packages that this suite can count on. That its profiles cannot be
   * checked here is said as a warning; the tests of authz/audit hold each AuditEvent to their constraints.
   */
  private static boolean unavailable(String message) {
    return message.contains("https://profiles.ihe.net/ITI/BALP/StructureDefinition/")
        && (message.endsWith("has not been checked because it could not be found") || message.contains("Failed to retrieve profile with url"));
  }

  /** The message without what differs from resource to resource. */
  private static String general(SingleValidationMessage s) {
    return s.getMessage().replaceAll("CNRY-[0-9a-f]+", "...").replaceAll("[0-9a-f]{8}-[0-9a-f-]{27}", "{id}")
        .replaceAll("#[A-Za-z0-9.-]+", "#...").replaceAll("@[0-9a-f]+", "").replaceAll("\\s+", " ");
  }
}
