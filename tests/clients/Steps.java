// The steps of tests/support/clients.py, with the HttpClient of Java, which offers h2c with its first requests.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.regex.Pattern;

public class Steps {
    static HttpClient client;
    static String base, tenant;

    static void tell(String step, int status, String value) {
        System.out.println("[\"" + step + "\", " + status + ", " + value + "]");
    }

    static String field(String name, HttpResponse<String> response) {
        var found = Pattern.compile("\"" + name + "\":(\"[^\"]*\"|[0-9]+)").matcher(response.body());
        return found.find() ? found.group(1) : "null";
    }

    static HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create(base + path));
    }

    static HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
        return client.send(request.build(), BodyHandlers.ofString());
    }

    static void items(String step, HttpRequest.Builder request) throws Exception {
        var response = send(request);
        tell(step, response.statusCode(), field("items", response));
    }

    static void refusal(String step, HttpRequest.Builder request) throws Exception {
        var response = send(request);
        tell(step, response.statusCode(), field("code", response));
    }

    static HttpRequest.Builder post(BodyPublisher body) {
        return to("/items").POST(body);
    }

    static void counts(String step, List<HttpResponse<String>> responses) {
        var different = new HashSet<String>();
        for (var each : responses) {
            different.add(each.statusCode() + ", " + field("counter", each));
        }
        System.out.println("[\"" + step + "\", " + String.join(" or ", different) + "]");
    }

    public static void main(String[] arguments) throws Exception {
        var version = HttpClient.Version.valueOf(arguments[0]);
        client = HttpClient.newBuilder().version(version).build();
        base = arguments[1];
        var first = Integer.parseInt(arguments[2]);
        tenant = arguments[3];
        var one = "[{\"ID\":" + first + ",\"tenant\":\"" + tenant + "\"}]";
        var many = new ArrayList<String>();
        for (int i = 1; i <= 1000; i++) {
            many.add("{\"ID\":" + (first + i) + ",\"tenant\":\"" + tenant + "\"}");
        }
        var thousand = "[" + String.join(",", many) + "]";
        var count = to("/items/" + tenant + "/count");

        items("one item", post(BodyPublishers.ofString(one)).expectContinue(true));
        items("1,000 items", post(BodyPublishers.ofString(thousand)));
        items("1,000 items in chunks",
              post(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(thousand.getBytes()))));
        var found = new ArrayList<HttpResponse<String>>();
        for (int i = 0; i < 200; i++) {
            found.add(send(count));
        }
        counts("counts, one after the other", found);
        var asked = new ArrayList<CompletableFuture<HttpResponse<String>>>();
        for (int i = 0; i < 200; i++) {
            asked.add(client.sendAsync(count.build(), BodyHandlers.ofString()));
        }
        found.clear();
        for (var each : asked) {
            found.add(each.get());
        }
        counts("counts, all at once", found);
        var head = send(to("/healthz").method("HEAD", BodyPublishers.noBody()));
        tell("HEAD", head.statusCode(), "\"" + head.body() + "\"");
        refusal("no such path", to("/nothing"));
        refusal("an invalid item", post(BodyPublishers.ofString("[{}]")));
        refusal("too large", post(BodyPublishers.ofString(" ".repeat(5_000_000))));
        send(count);
        Thread.sleep(1500);
        items("after a pause", post(BodyPublishers.ofString(one)));
        // It keeps threads that would keep the process.
        System.exit(0);
    }
}
