/** Who a peer is, as the authenticator said. A class, so that decorated parameters can name it. */
export class UserIdentity<C = Record<string, unknown>> {
  constructor(
    /** The subject: devices of one user share it. */
    readonly id: string,
    readonly claims: C = {} as C,
    /** When the credentials end, ms since 1970. */
    readonly expiresAt?: number,
    /**
     * The channels that the peer may use at all, by their names or by patterns such as `chat.:room`; what is no pattern
     * grants nothing. Guards and hooks of the channels decide besides. Absent: all.
     */
    readonly channels?: readonly string[],
  ) {}
}
