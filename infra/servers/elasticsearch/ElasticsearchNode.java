import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * One Elasticsearch node on loopback: {@code ElasticsearchNode HOME DIR PORT}, with the modules in HOME/modules, everything
 * that it writes in DIR, HTTP on PORT and transport on the one above.
 *
 * <p>The distribution's own main class needs an agent that is in no package registry, and refuses root.
 */
final class ElasticsearchNode {
    private static final long PATIENCE_S = 20;

    public static void main(String[] arguments) {
        try {
            serve(Path.of(arguments[0]), Path.of(arguments[1]), Integer.parseInt(arguments[2]));
        } catch (Exception failure) {
            failure.printStackTrace();
            // Threads of a node that came half way would keep the process.
            System.exit(1);
        }
    }

    private static void serve(Path home, Path dir, int port) throws Exception {
        var settings = Settings.builder()
            .put("path.home", home.toString())
            .put("path.data", dir.resolve("data").toString())
            .put("path.logs", dir.resolve("logs").toString())
            .put("cluster.name", "atelier")
            .put("node.name", "atelier")
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("http.port", port)
            .put("transport.port", port + 1)
            .put("logger.level", "WARN")
            // Indices are made on purpose: a wrong name is an error.
            .put("action.auto_create_index", false)
            // A nearly full disk would make every index read-only.
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build();
        LogConfigurator.configureESLogging();
        LogConfigurator.configureWithoutConfig(settings);
        var modules = PluginsLoader.loadModulesBundles(home.resolve("modules"), false);
        var plugins = PluginsLoader.loadPluginsBundles(home.resolve("plugins"), false);
        // The server is on the class path, so there is no module that could export anything.
        var loader = PluginsLoader.createPluginsLoader(modules, plugins, Map.of(), false);
        var node = new Node(new Environment(settings, dir.resolve("config")), loader);
        var ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node, ended)));
        node.start();
        ended.await();
    }

    private static void close(Node node, CountDownLatch ended) {
        try {
            node.close();
            node.awaitClose(PATIENCE_S, TimeUnit.SECONDS);
        } catch (Exception failure) {
            failure.printStackTrace();
        } finally {
            ended.countDown();
        }
    }
}
