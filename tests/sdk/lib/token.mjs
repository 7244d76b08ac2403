// Tokens as a backend makes them, with nothing but the standard library.

import { createHmac } from 'node:crypto';

export const SECRET = 'sdk-tests-secret';

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** HS256; `ttl` in seconds from now, negative for the past. */
export function token(claims, { ttl, secret = SECRET, header = { alg: 'HS256', typ: 'JWT' } } = {}) {
  const all = ttl === undefined ? claims : { ...claims, exp: Math.floor(Date.now() / 1000) + ttl };
  const signed = `${encoded(header)}.${encoded(all)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}
