/**
 * What `/metrics` tells of each node.
 *
 * @typedef {object} Facts
 * @property {?number} journal bytes of its journal
 * @property {?number} free bytes that are left on its disk
 * @property {?number} size bytes of its disk
 * @property {?number} lag_s for how long (s) it has lacked a batch that another node has
 *
 * @returns {Map<number, Facts>}
 */
export function nodeFacts(metrics) {
  const found = new Map();
  const put = (id, name, value) => {
    const facts = found.get(id) ?? { journal: null, free: null, size: null, lag_s: null };
    facts[name] = Math.max(value, facts[name] ?? 0);
    found.set(id, facts);
  };
  const each = (name, call) => (metrics.get(name) ?? []).forEach(call);
  each("dcounter_node_journal_bytes", ({ labels, value }) => put(Number(labels.node), "journal", value));
  each("dcounter_replication_lag_seconds", ({ labels, value }) => put(Number(labels.node), "lag_s", value));
  for (const [name, metric] of [
    ["free", "dcounter_disk_free_bytes"],
    ["size", "dcounter_disk_size_bytes"],
  ]) {
    each(metric, ({ labels, value }) => {
      const node = /^node-(\d+)$/.exec(labels.process);
      if (node) put(Number(node[1]), name, value);
    });
  }
  return found;
}
