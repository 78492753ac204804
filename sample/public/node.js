const ASK_TIMES = 10;
const ASK_AGAIN_MS = 500;

/**
 * The node that serves a connection, or undefined. Any node may answer; the one that took the connection tells the
 * others right after.
 */
export async function askForNode(connection) {
  for (let times = 0; times < ASK_TIMES; times++) {
    const response = await fetch(`/connections/${connection}`).catch(() => undefined);
    const { node } = response?.ok ? await response.json() : {};
    if (node) return node.slice(0, 8);
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
  }
  return undefined;
}
