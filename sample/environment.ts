const { env } = process;

export const port = Number(env.PORT ?? 3000);

/** Where the Redis is that makes several nodes one, such as `redis://localhost:6379`; without it a node is alone. */
export const redisUrl = env.REDIS_URL || undefined;

/** The secret of HS256 tokens, which every handshake then needs; without it the demo is open to anyone. */
export const jwtSecret = env.JWT_SECRET || undefined;

/** What opens the admin page, at /realtime/admin; without it there is none. */
export const adminToken = env.ADMIN_TOKEN || undefined;

/** How long the tokens of the demo's own sign-in last: short, so that their renewal can be watched. */
export const tokenLifetimeS = Number(env.TOKEN_LIFETIME_S ?? 120);

/** The load balancers whose `X-Forwarded-For` is believed: addresses and ranges, such as `127.0.0.1,10.0.0.0/8`. */
export const trustedProxies = (env.TRUSTED_PROXIES ?? '').split(',').filter((address) => address !== '');
