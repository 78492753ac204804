import type { Broker, BrokerSession, Claim, Envelope, PresenceChange } from '../../lib/hub/ports/broker.js';

/** Past any pause of a busy machine: only what never comes takes so long. */
const TIMEOUT_MS = 60_000;

/** A node without a hub: a session at a broker, and all that it was told. */
export class RecordingNode {
  readonly envelopes: { channel: string; envelope: Envelope }[] = [];
  readonly changes: { channel: string; change: PresenceChange }[] = [];
  readonly claims: Claim[] = [];
  readonly holds: boolean[] = [];
  readonly nudges: { record: string; call: string | undefined }[] = [];
  resumed = 0;
  fenced = 0;
  /** What the claims' hooks do. */
  onClaim: (claim: Claim) => Promise<void> = () => Promise.resolve();
  /** Called after each thing that is told. */
  onTold: () => void = () => undefined;
  private readonly waiting = new Set<() => void>();
  private opened: BrokerSession | undefined;

  private constructor(readonly name: string) {}

  static async open(broker: Broker, name: string): Promise<RecordingNode> {
    const node = new RecordingNode(name);
    node.opened = await broker.open(name, {
      onEnvelope: (channel, envelope) => node.told(() => node.envelopes.push({ channel, envelope })),
      onPresence: (channel, change) => node.told(() => node.changes.push({ channel, change })),
      onResumed: () => node.told(() => (node.resumed += 1)),
      onClaim: (claim) => {
        node.told(() => node.claims.push(claim));
        return node.onClaim(claim);
      },
      onFenced: () => {
        node.told(() => (node.fenced += 1));
        return `${name}-${node.fenced}`;
      },
      onNudge: (record, call) => node.told(() => node.nudges.push({ record, call })),
      onHold: (hold) => node.told(() => node.holds.push(hold)),
    });
    return node;
  }

  get session(): BrokerSession {
    return this.opened!;
  }

  envelopesOf(channel: string): Envelope[] {
    return this.envelopes.filter((told) => told.channel === channel).map(({ envelope }) => envelope);
  }

  changesOf(channel: string): PresenceChange[] {
    return this.changes.filter((told) => told.channel === channel).map(({ change }) => change);
  }

  /** Resolves once the node was told enough for the condition to hold; rejects after a minute. */
  async until(condition: () => boolean, what: string): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(check);
        reject(new Error(`Node ${this.name} was not told within ${TIMEOUT_MS} ms: ${what}`));
      }, TIMEOUT_MS);
      const check = (): void => {
        if (!condition()) return;
        clearTimeout(timer);
        this.waiting.delete(check);
        resolve();
      };
      this.waiting.add(check);
    });
  }

  private told(record: () => void): void {
    record();
    this.onTold();
    for (const check of [...this.waiting]) check();
  }
}
