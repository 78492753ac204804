/** What a node can do. */
export interface HubHealth {
  /**
   * `degraded`: the broker is away, so that peers stay and get what this node has, and publications wait or are refused.
   * `down`: peers are not served, as the hub has not started or is closed.
   */
  readonly status: 'up' | 'degraded' | 'down';
  /** Whether new peers are let in: no longer once the application shuts down. */
  readonly ready: boolean;
  readonly broker: { readonly name: string; readonly available: boolean };
  /** The connections of this node. */
  readonly connections: number;
}
