export { jwtAuth } from './security/jwt.authenticator.js';
export { JwtConnectionGuard, type JwtConnectionGuardOptions } from './nest/jwt-connection.guard.js';
export type { JwtAuthOptions, JwtVerifier } from './security/jwt-options.js';
export type { JwtAlgorithm } from './security/jwt-keys.js';
