import { anonymous } from 'nestjs-realtime';
import { jwtAuth, type JwtConnectionGuardOptions } from 'nestjs-realtime/jwt';
import { jwtVerify } from 'jose';
import { jwtSecret } from './environment.js';

/** Where a browser keeps the token for what can send no header: an EventSource. */
export const TOKEN_COOKIE = 'demo_token';

/** What HS256 asks for (RFC 7518, section 3.2), and `jwtAuth({ secret })` with it. */
const MIN_SECRET_BYTES = 32;

/** How tokens are checked, at the handshake and at the application's own routes; `undefined`: nobody needs one. */
export const tokens = jwtSecret === undefined ? undefined : tokensOf(jwtSecret);

/** With a secret every handshake needs a token of it; a claim `channels` in it limits what may be subscribed. */
export const auth = tokens === undefined ? anonymous() : jwtAuth(tokens);

function tokensOf(secret: string): JwtConnectionGuardOptions {
  const key = new TextEncoder().encode(secret);
  if (key.length >= MIN_SECRET_BYTES) return { secret, algorithms: ['HS256'], cookie: TOKEN_COOKIE };
  // A demo may be tried with any secret; what protects something may not.
  console.warn(`JWT_SECRET has ${key.length} bytes, and can be guessed: a real one has ${MIN_SECRET_BYTES} or more`);
  const verify = async (token: string): Promise<object> =>
    (await jwtVerify(token, key, { algorithms: ['HS256'] })).payload;
  return { verify, cookie: TOKEN_COOKIE };
}
