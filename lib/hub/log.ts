/** Where the hub tells of what an operator should know. Never gets what peers sent, nor secrets. */
export interface Log {
  warn(message: string): void;
  /** `error` is what was thrown, for its stack. */
  error(message: string, error?: unknown): void;
}
