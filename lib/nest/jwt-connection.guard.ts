import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { Connection } from '../hub/connection.js';
import { identify, type Authenticator } from '../hub/ports/authenticator.js';
import { RealtimeException } from '../protocol/errors.js';
import { extractCredentials } from '../security/credentials.js';
import { jwtAuthenticator } from '../security/jwt.authenticator.js';
import { resolveJwtOptions, type JwtAuthOptions } from '../security/jwt-options.js';
import type { HandshakeRequest } from './gateway-handshake.js';

/** Options of {@link JwtConnectionGuard}: those of `jwtAuth()`, but for the places that a guard comes too late for. */
export type JwtConnectionGuardOptions = Omit<JwtAuthOptions, 'query' | 'firstFrame'>;

/**
 * Lets peers in that have a JSON Web Token, in an application that does not set `auth`: in `connectionGuards`, or by
 * `@UseGuards()` on the `handleConnection` of the gateways that need one. Takes the token from the Authorization header,
 * the subprotocol, or the cookie that the options name, checks it as `jwtAuth()` does, and sets `request.user`: the
 * connection gets its identity with its end and its channels. Refuses with 401. For other contexts of `ws` it passes where
 * the connection has a user. Make an instance, extend it to inject what its options need, or provide it by a factory.
 *
 * A token cannot be renewed in place: that needs `auth`. Throws a TypeError that lists every mistake in the options.
 */
@Injectable()
export class JwtConnectionGuard implements CanActivate {
  readonly #authenticator: Authenticator;
  readonly #places: Pick<Authenticator, 'cookie'>;

  constructor(options: JwtConnectionGuardOptions) {
    this.#authenticator = jwtAuthenticator(resolveJwtOptions(options, 'JwtConnectionGuard', ['cookie']));
    this.#places = options.cookie === undefined ? {} : { cookie: options.cookie };
  }

  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (context.getType() === 'ws') return context.switchToWs().getClient<Connection>().user !== undefined;
    const request = context.switchToHttp().getRequest<HandshakeRequest>();
    const credentials = extractCredentials(request, this.#places);
    if (credentials === undefined) throw new RealtimeException('unauthenticated');
    request.user = await identify(this.#authenticator, credentials);
    return true;
  }
}
