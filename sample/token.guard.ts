import { UnauthorizedException, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { JwtConnectionGuard } from 'nestjs-realtime/jwt';
import { tokens } from './auth.js';

/** The application's own routes ask for what the handshakes ask for. */
export class TokenGuard implements CanActivate {
  readonly #guard = tokens === undefined ? undefined : new JwtConnectionGuard(tokens);

  async canActivate(context: ExecutionContext): Promise<boolean> {
    try {
      return this.#guard === undefined || (await this.#guard.canActivate(context));
    } catch {
      throw new UnauthorizedException();
    }
  }
}
