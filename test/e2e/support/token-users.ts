import type { ClientOptions } from 'ws';
import { UserIdentity, type Authenticator } from '../../../lib/index.js';
import { secret } from '../../support/secrets.js';

const PREFIX = 'token-of-';

/** The token of a user, which must not get out. */
export const tokenOf = (user: string): string => secret(`${PREFIX}${user}`);

/** An authenticator that knows the tokens of `tokenOf`. */
export const tokenUsers: Authenticator = {
  authenticate: async ({ token }) => new UserIdentity(token.slice(PREFIX.length), { from: 'token' }),
};

/** Options of a WebSocket that make its peer a user. */
export const as = (user: string): ClientOptions => ({ headers: { Authorization: `Bearer ${tokenOf(user)}` } });
