import { describe, expect, it } from '@jest/globals';
import { UnauthorizedException } from '@nestjs/common';
import { CompactEncrypt } from 'jose';
import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { UserIdentity } from '../../../lib/hub/identity.js';
import { identify } from '../../../lib/hub/ports/authenticator.js';
import { jwtAuth, type JwtAuthOptions } from '../../../lib/jwt.js';
import { forge, KEYS, SECRET, SECRET_KEY, seconds, sign } from '../../support/jwt.js';

function ask(options: JwtAuthOptions, token: string): Promise<UserIdentity> {
  return identify(jwtAuth(options), { token, source: 'header' });
}

/** How a token is refused: the code, or the name of an error that is no refusal. */
async function refusal(options: JwtAuthOptions, token: string): Promise<string> {
  try {
    await ask(options, token);
  } catch (error) {
    const { code, name } = error as { code?: string; name: string };
    return code ?? name;
  }
  return 'accepted';
}

describe('jwtAuth', () => {
  const secrets: [string, JwtAuthOptions][] = [
    ['text', { secret: SECRET }],
    ['bytes', { secret: new TextEncoder().encode(SECRET) }],
    ['a KeyObject', { secret: SECRET_KEY }],
  ];
  it.each(secrets)('takes a secret as %s, for each HS algorithm', async (_, options) => {
    for (const alg of ['HS256', 'HS384', 'HS512']) {
      expect(await ask(options, await sign({}, SECRET_KEY, { alg }))).toMatchObject({ id: 'ann' });
    }
  });

  const signed: [string, keyof typeof KEYS][] = [
    ['RS256', 'RS256'],
    ['RS512', 'RS256'],
    ['PS256', 'RS256'],
    ['PS384', 'RS256'],
    ['ES256', 'ES256'],
    ['ES384', 'ES384'],
    ['ES512', 'ES512'],
    ['EdDSA', 'EdDSA'],
  ];
  it.each(signed)('takes tokens signed with %s, by a public key in each form', async (alg, kind) => {
    const { publicKey, privateKey } = KEYS[kind];
    const token = await sign({}, privateKey, { alg });
    const forms = [
      publicKey,
      publicKey.export({ type: 'spki', format: 'pem' }) as string,
      publicKey.export({ format: 'jwk' }),
    ];
    for (const form of forms) expect(await ask({ publicKey: form }, token)).toMatchObject({ id: 'ann' });
  });

  it('says who the peer is, until when, and what it may use', async () => {
    const exp = seconds() + 60;
    const claims = { exp, role: 'admin', channels: ['chat.:room', 'news', 7] };
    const user = await ask({ secret: SECRET }, await sign(claims));
    expect(user).toEqual({
      id: 'ann',
      claims: { sub: 'ann', ...claims },
      expiresAt: exp * 1000,
      channels: ['chat.:room', 'news'],
    });
    const other = await ask(
      { secret: SECRET, idClaim: 'uid', channelsClaim: 'may', clockToleranceMs: 5_000 },
      await sign({ exp, uid: 7, may: 'chat.a', channels: ['news'] }),
    );
    expect([other.id, other.expiresAt, other.channels]).toEqual(['7', exp * 1000 + 5_000, []]);
    const endless = await ask({ secret: SECRET }, await sign({ exp: undefined }));
    expect([endless.expiresAt, endless.channels]).toEqual([undefined, undefined]);
  });

  it('checks exp and nbf, within the tolerance', async () => {
    const late = await sign({ exp: seconds() - 5 });
    const early = await sign({ nbf: seconds() + 5 });
    expect(await refusal({ secret: SECRET }, late)).toBe('token_expired');
    expect(await refusal({ secret: SECRET }, early)).toBe('unauthenticated');
    for (const token of [late, early]) {
      expect(await refusal({ secret: SECRET, clockToleranceMs: 30_000 }, token)).toBe('accepted');
    }
  });

  it('checks issuer and audience where they are given', async () => {
    const options = { secret: SECRET, issuer: ['https://a.example', 'https://b.example'], audience: 'chat' };
    const good = { iss: 'https://b.example', aud: ['mail', 'chat'] };
    expect(await refusal(options, await sign(good))).toBe('accepted');
    for (const claims of [
      { ...good, iss: 'https://c.example' },
      { ...good, aud: 'mail' },
      { ...good, iss: undefined },
      { ...good, aud: undefined },
    ]) {
      expect(await refusal(options, await sign(claims))).toBe('unauthenticated');
    }
  });

  const pem = (key: KeyObject): string => key.export({ type: 'spki', format: 'pem' }) as string;
  const hmac = (key: string, claims: object): string => {
    const signed = forge({ alg: 'HS256' }, claims).slice(0, -1);
    return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
  };
  const claims = { sub: 'ann', exp: 9_999_999_999 };
  const wrong: [string, JwtAuthOptions, () => string | Promise<string>][] = [
    ['no token at all', { secret: SECRET }, () => ''],
    ['junk', { secret: SECRET }, () => 'junk'],
    ['three parts of junk', { secret: SECRET }, () => 'a.b.c'],
    ['alg none', { secret: SECRET }, () => forge({ alg: 'none' }, claims)],
    ['alg none, for a public key', { publicKey: KEYS.RS256.publicKey }, () => forge({ alg: 'none' }, claims)],
    ['no alg', { secret: SECRET }, () => forge({}, claims, 'AAAA')],
    [
      'an HS256 signed with the public key',
      { publicKey: KEYS.RS256.publicKey },
      () => hmac(pem(KEYS.RS256.publicKey), claims),
    ],
    ['another secret', { secret: SECRET }, () => hmac('another secret of at least 32 bytes', claims)],
    [
      'another key',
      { publicKey: KEYS.ES256.publicKey },
      () => sign({}, generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, { alg: 'ES256' }),
    ],
    ['an algorithm that is not in the list', { secret: SECRET, algorithms: ['HS512'] }, () => sign()],
    [
      'an algorithm of another kind of key',
      { publicKey: KEYS.ES256.publicKey },
      () => sign({}, KEYS.RS256.privateKey, { alg: 'RS256' }),
    ],
    [
      'a changed claim',
      { secret: SECRET },
      async () => {
        const [header, , signature] = (await sign()).split('.');
        return `${header}.${Buffer.from(JSON.stringify({ ...claims, sub: 'root' })).toString('base64url')}.${signature}`;
      },
    ],
    ['a cut signature', { secret: SECRET }, async () => (await sign()).slice(0, -4)],
    [
      'an unknown critical header',
      { secret: SECRET },
      () => forge({ alg: 'HS256', crit: ['x'], x: 1 }, claims, 'AAAA'),
    ],
    [
      'encryption',
      { secret: SECRET },
      () =>
        new CompactEncrypt(new TextEncoder().encode(JSON.stringify(claims)))
          .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
          .encrypt(new Uint8Array(32)),
    ],
    ['no sub', { secret: SECRET }, () => sign({ sub: undefined })],
    ['an empty sub', { secret: SECRET }, () => sign({ sub: '' })],
    ['a sub that is an object', { secret: SECRET }, () => hmac(SECRET, { ...claims, sub: { $ne: '' } })],
    ['an exp that is text', { secret: SECRET }, () => hmac(SECRET, { sub: 'ann', exp: '9999999999' })],
    ['claims that are no object', { secret: SECRET }, () => hmac(SECRET, ['ann'])],
  ];
  it.each(wrong)('refuses a token with %s', async (_, options, token) => {
    expect(await refusal(options, await token())).toBe('unauthenticated');
  });
});

describe('jwtAuth with a verifier of the application', () => {
  const failing = (error: unknown): JwtAuthOptions => ({
    verify: () => {
      throw error;
    },
  });
  const named = (name: string, message: string): Error => Object.assign(new Error(message), { name });

  it('takes the claims that it gives', async () => {
    const exp = seconds() + 60;
    const verify = (token: string): object => ({ sub: token, exp, channels: ['news'] });
    expect(await ask({ verify }, 'ann')).toMatchObject({ id: 'ann', expiresAt: exp * 1000, channels: ['news'] });
    expect(await ask({ verify: async (token) => Promise.resolve({ sub: token }) }, 'bob')).toMatchObject({ id: 'bob' });
  });

  it.each<[string, JwtAuthOptions, string]>([
    ['gives nothing', { verify: () => null }, 'unauthenticated'],
    ['gives claims without the id', { verify: () => ({ id: 'ann' }) }, 'unauthenticated'],
    ['gives an exp that is no number', { verify: () => ({ sub: 'ann', exp: 'never' }) }, 'unauthenticated'],
    ['throws an exception of Nest', failing(new UnauthorizedException()), 'unauthenticated'],
    ['throws that it has expired', failing(named('TokenExpiredError', 'jwt expired')), 'token_expired'],
    ['throws that it is not active', failing(named('NotBeforeError', 'jwt not active')), 'unauthenticated'],
    ['throws that it is malformed', failing(named('JsonWebTokenError', 'jwt malformed')), 'unauthenticated'],
    [
      'throws that it has no key',
      failing(named('JsonWebTokenError', 'secret or public key must be provided')),
      'Error',
    ],
    ['throws anything else', failing(new Error('ECONNREFUSED')), 'Error'],
    ['throws nothing', failing(undefined), 'Error'],
    ['gives text', { verify: () => 'ann' as never }, 'Error'],
  ])('that %s', async (_, options, expected) => {
    expect(await refusal(options, 'token')).toBe(expected);
  });

  it('asks a service with what was given, so that its own options count for the rest', async () => {
    const asked: unknown[] = [];
    const service = {
      verifyAsync: (_token: string, options?: object) => {
        asked.push(options);
        return Promise.resolve({ sub: 'ann' });
      },
    };
    await ask({ service }, 'token');
    await ask({ service, algorithms: ['RS256'], issuer: 'a', audience: ['b'], clockToleranceMs: 2_500 }, 'token');
    expect(asked).toEqual([{}, { algorithms: ['RS256'], issuer: ['a'], audience: ['b'], clockTolerance: 2.5 }]);
  });
});

describe('wrong options of jwtAuth', () => {
  function mistakes(options: unknown): string[] {
    try {
      jwtAuth(options as JwtAuthOptions);
    } catch (error) {
      const [title, ...lines] = (error as TypeError).message.split('\n');
      expect([error instanceof TypeError, title]).toEqual([true, 'jwtAuth() has wrong options:']);
      return lines.map((line) => line.slice('  - '.length));
    }
    return [];
  }

  it('are told all at once', () => {
    const options = {
      secret: 'too short',
      algorithms: ['none'],
      issuer: [],
      audience: 5,
      clockToleranceMs: -1,
      idClaim: '',
      cookie: 'a b',
      query: 'channels',
      firstFrame: 'yes',
      jwks: {},
      secrets: [],
    };
    expect(mistakes(options).map((line) => line.split(':', 1)[0])).toEqual([
      'secrets',
      'jwks',
      'secret',
      'algorithms',
      'issuer',
      'audience',
      'clockToleranceMs',
      'idClaim',
      'firstFrame',
      'cookie',
      'query',
    ]);
  });

  const rsa1024 = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
  const { publicKey, privateKey } = KEYS.RS256;
  it.each(
    (
      [
        [{}, 'secret: expected exactly one of secret, publicKey, jwksUri, service, verify, got 0'],
        [
          { secret: undefined },
          'secret: expected exactly one of secret, publicKey, jwksUri, service, verify, got 0; secret is undefined',
        ],
        [
          { secret: SECRET, publicKey },
          'secret, publicKey: expected exactly one of secret, publicKey, jwksUri, service, verify, got 2',
        ],
        [
          { secret: 'x'.repeat(31) },
          'secret: is 31 bytes long; HS256 needs at least 32 bytes that nobody can guess, such as those of `openssl rand -base64 32`',
        ],
        [{ secret: 5 }, 'secret: expected text, bytes (Uint8Array) or a KeyObject that is a secret'],
        [{ secret: publicKey }, 'secret: expected text, bytes (Uint8Array) or a KeyObject that is a secret'],
        [
          { secret: pemOf(publicKey) },
          'secret: is a key in PEM, whose public half is no secret: give it as `publicKey`',
        ],
        [{ secret: 'x'.repeat(47), algorithms: ['HS384'] }, 'algorithms: the key is not for HS384, but for HS256'],
        [
          { secret: SECRET, algorithms: ['HS256', 'RS256'] },
          'algorithms: the key is not for RS256, but for HS256, HS384, HS512',
        ],
        [
          { publicKey, algorithms: ['HS256'] },
          'algorithms: the key is not for HS256, but for RS256, RS384, RS512, PS256, PS384, PS512',
        ],
        [
          { publicKey: KEYS.ES384.publicKey, algorithms: ['ES256'] },
          'algorithms: the key is not for ES256, but for ES384',
        ],
        [{ publicKey: 'no key' }, 'publicKey: expected a public key: PEM text, a JWK or a KeyObject'],
        [{ publicKey: SECRET_KEY }, 'publicKey: expected a public key: PEM text, a JWK or a KeyObject'],
        [{ publicKey: { kty: 'oct', k: 'AAAA' } }, 'publicKey: expected a public key: PEM text, a JWK or a KeyObject'],
        [{ publicKey: privateKey }, 'publicKey: is a private key: whoever signs tokens keeps it; give its public half'],
        [
          { publicKey: privateKey.export({ format: 'jwk' }) },
          'publicKey: is a private key: whoever signs tokens keeps it; give its public half',
        ],
        [
          { publicKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) },
          'publicKey: is a private key: whoever signs tokens keeps it; give its public half',
        ],
        [
          { publicKey: rsa1024 },
          'publicKey: is of a kind that no algorithm is for; supported are RSA of at least 2048 bits, P-256, P-384, P-521 and Ed25519',
        ],
        [{ jwksUri: 'jwks.json' }, 'jwksUri: expected a URL of https: or, in a network of your own, http:'],
        [
          { jwksUri: 'https://a:b@id.example/' },
          'jwksUri: expected a URL without user and password: no fetch takes them',
        ],
        [
          { jwksUri: 'https://id.example/', jwks: { ttl: 1 } },
          'jwks.ttl: is no option; known are cacheMs, cooldownMs, timeoutMs',
        ],
        [
          { jwksUri: 'https://id.example/', jwks: { timeoutMs: 0.5 } },
          'jwks.timeoutMs: expected an integer from 0 to 2147483647',
        ],
        [
          { jwksUri: 'https://id.example/', algorithms: ['HS256'] },
          'algorithms: the key is not for HS256, but for RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA',
        ],
        [{ service: {} }, 'service: expected the JwtService of @nestjs/jwt'],
        [
          { service: { verifyAsync: () => undefined }, algorithms: ['HS256', 'ES256'] },
          'algorithms: mixes those of a secret with those of a public key: whoever knows the public key could sign',
        ],
        [{ verify: 'x' }, 'verify: expected a function that gives the claims of a token'],
        [
          { verify: () => null, algorithms: ['HS256'] },
          'algorithms: is not looked at where `verify` is given: it has to check the algorithm',
        ],
        [
          { verify: () => null, issuer: 'a' },
          'issuer: is not looked at where `verify` is given: it has to check the claim',
        ],
      ] as [options: unknown, line: string][]
    ).map(([options, line]) => [line, options] as const),
  )('%s', (line, options) => {
    expect(mistakes(options)).toEqual([line]);
  });
});

function pemOf(key: KeyObject): string {
  return key.export({ type: 'spki', format: 'pem' }) as string;
}
