package conformance;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;

/** Asks the server as one of the personas of its sample clinic. */
final class Exchange {
  private static final ObjectMapper JSON = new ObjectMapper();
  private final HttpClient http = HttpClient.newHttpClient();
  private final String base;
  private final JsonNode tokens;

  Exchange(String base, Path personas) throws IOException {
    this.base = base;
    this.tokens = JSON.readTree(Files.readString(personas));
  }

  /** Headers are name, value, name, value ... */
  HttpResponse<byte[]> send(String who, String method, String path, String body, String... headers)
      throws IOException, InterruptedException {
    HttpRequest.Builder rq = HttpRequest.newBuilder(URI.create(base + path));
    rq.method(method, body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body));
    if (who != null) {
      rq.header("Authorization", "Bearer " + (tokens.has(who) ? tokens.get(who).asText() : who));
    }
    boolean typed = false;
    for (int i = 0; i + 1 < headers.length; i += 2) {
      rq.header(headers[i], headers[i + 1]);
      typed |= headers[i].equals("Content-Type");
    }
    if (body != null && !typed) {
      rq.header("Content-Type", "application/fhir+json");
    }
    return http.send(rq.build(), HttpResponse.BodyHandlers.ofByteArray());
  }

  JsonNode json(String who, String path) throws IOException, InterruptedException {
    return JSON.readTree(send(who, "GET", path, null).body());
  }

  Iterable<String> personas() {
    return tokens::fieldNames;
  }
}
