// Attacks on who one is and where one comes from, a row each: what is tried, and what the peer must see.
// Numbers below 1000 are errors, from 3000 on the code of the close frame; `ok` is a connection.

import assert from 'node:assert/strict';
import { constants, createHmac, generateKeyPairSync, sign } from 'node:crypto';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { Raw } from '../lib/raw.mjs';
import { Server } from '../lib/server.mjs';
import { SECRET, token } from '../lib/token.mjs';
import { until } from '../lib/util.mjs';

const part = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const now = () => Math.floor(Date.now() / 1000);

/** A token of these parts; `by` makes the signature of its first two. */
const made = (header, claims, by) => {
  const signed = `${part(header)}.${part(claims)}`;
  return `${signed}.${by(signed).toString('base64url')}`;
};
const hmac = (secret, hash = 'sha256') => (signed) => createHmac(hash, secret).update(signed).digest();
const rsa = (key, hash = 'sha256') => (signed) => sign(hash, Buffer.from(signed), key);
const hs = (header, claims = { sub: '42' }) => made({ alg: 'HS256', ...header }, claims, hmac(SECRET));
/** HS256 with the header and the claims as they are written here. */
const text = (claims, header = '{"alg":"HS256"}') => made(header, claims, hmac(SECRET));

/** What a token opens: `ok`, an error, or the end of the connection. */
async function outcome(server, connect) {
  const raw = await Raw.open(server.ws);
  raw.send({ id: 1, connect });
  const answer = await until(() => raw.messages[0] ?? raw.close, 'an answer or the end');
  raw.end();
  return answer.code ?? answer.error?.code ?? (answer.connect ? 'ok' : answer);
}

/** Tries every row `[what, token, expected]`, and says all that went wrong. */
async function holds(server, rows, open = (it) => outcome(server, { token: it })) {
  const found = await Promise.all(rows.map(async ([what, given]) => [what, await open(given)]));
  assert.deepEqual(found, rows.map(([what, , expected]) => [what, expected]));
}

const keys = { rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }), ec: generateKeyPairSync('ec', { namedCurve: 'P-256' }) };
const pem = (key) => key.publicKey.export({ type: 'spki', format: 'pem' });
/** A server whose clients need a token by one of these keys. */
const guarded = (token, more = {}) =>
  Server.start({ client: { allow_anonymous_connect_without_token: false, allowed_origins: ['*'], token, ...more } });

describe('tokens', () => {
  let server;
  before(async () => {
    server = await guarded({ hmac_secret_key: SECRET, rsa_public_key: pem(keys.rsa), ecdsa_public_key: pem(keys.ec), size_max: 2000 });
  });
  after(() => server?.stop());

  test('the key decides about the algorithm', () => {
    const claims = { sub: '42' };
    const publicKey = pem(keys.rsa);
    const ieee = (signed) => sign('sha256', Buffer.from(signed), { key: keys.ec.privateKey, dsaEncoding: 'ieee-p1363' });
    const pss = (signed) =>
      sign('sha256', Buffer.from(signed), { key: keys.rsa.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING });
    const nothing = () => Buffer.alloc(0);
    return holds(server, [
      ['HS256', hs({}), 'ok'],
      ['RS256', made({ alg: 'RS256' }, claims, rsa(keys.rsa.privateKey)), 'ok'],
      ['ES256', made({ alg: 'ES256' }, claims, ieee), 'ok'],
      ['none', made({ alg: 'none' }, claims, nothing), 3500],
      ['None, signed', made({ alg: 'None' }, claims, hmac(SECRET)), 3500],
      ['nOnE, without a signature', made({ alg: 'nOnE' }, claims, nothing), 3500],
      ['empty algorithm', made({ alg: '' }, claims, hmac(SECRET)), 3500],
      ['no algorithm', made({ typ: 'JWT' }, claims, hmac(SECRET)), 3500],
      ['algorithm a number', made({ alg: 256 }, claims, hmac(SECRET)), 3500],
      ['a list of algorithms', made({ alg: ['HS256'] }, claims, hmac(SECRET)), 3500],
      ['two algorithms', made('{"alg":"RS256","alg":"HS256"}', claims, hmac(SECRET)), 3500],
      ['HS256 with the RSA key as secret', made({ alg: 'HS256' }, claims, hmac(publicKey)), 3500],
      ['the same without the last line break', made({ alg: 'HS256' }, claims, hmac(publicKey.trim())), 3500],
      ['RS256 named, HMAC made', made({ alg: 'RS256' }, claims, hmac(SECRET)), 3500],
      ['HS256 named, RSA made', made({ alg: 'HS256' }, claims, rsa(keys.rsa.privateKey)), 3500],
      ['PS256', made({ alg: 'PS256' }, claims, pss), 3500],
      ['RS256 named, PSS made', made({ alg: 'RS256' }, claims, pss), 3500],
      ['ES256 as DER', made({ alg: 'ES256' }, claims, (it) => sign('sha256', Buffer.from(it), keys.ec.privateKey)), 3500],
      ['ES256 of zeros', made({ alg: 'ES256' }, claims, () => Buffer.alloc(64)), 3500],
      ['ES384 by the P-256 key', made({ alg: 'ES384' }, claims, ieee), 3500],
      ['EdDSA without such a key', made({ alg: 'EdDSA' }, claims, () => Buffer.alloc(64)), 3500],
      ['an empty secret', made({ alg: 'HS256' }, claims, hmac('')), 3500],
      ['HS512 named, HS256 made', made({ alg: 'HS512' }, claims, hmac(SECRET)), 3500],
      ['the secret of somebody else', made({ alg: 'HS256' }, claims, hmac('other')), 3500],
    ]);
  });

  test('headers lead nowhere', () => {
    const own = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const jwk = own.publicKey.export({ format: 'jwk' });
    const forged = (header) => made({ alg: 'RS256', ...header }, { sub: '42' }, rsa(own.privateKey));
    const chosen = (kid, secret) => made({ alg: 'HS256', kid }, { sub: '42' }, hmac(secret));
    return holds(server, [
      ['its own key', forged({ jwk }), 3500],
      ['where its own key is', forged({ jku: `${server.http}/keys` }), 3500],
      ['its own certificate', forged({ x5c: ['MIIB'], x5u: `${server.http}/cert` }), 3500],
      ['jwk beside the right key counts for nothing', hs({ jwk: { kty: 'oct', k: 'AA' }, jku: 'http://127.0.0.1:1/' }), 'ok'],
      ['kid a path, secret of an empty file', chosen('../../dev/null', ''), 3500],
      ['kid a statement', chosen("x' UNION SELECT 'a", 'a'), 3500],
      ['kid a URL', chosen('http://127.0.0.1/k', 'k'), 3500],
      ['kid a number', text({ sub: '42' }, '{"alg":"HS256","kid":1}'), 3500],
      ['extensions that must be understood', hs({ crit: ['exp'] }), 3500],
      ['an empty list of them', hs({ crit: [] }), 3500],
      ['a payload that is not encoded', hs({ crit: ['b64'], b64: false }), 3500],
      ['another type', hs({ typ: 'JOSE' }), 'ok'],
    ]);
  });

  test('forms', () => {
    const good = hs({});
    const [header, payload, signature] = good.split('.');
    return holds(server, [
      ['one part', header, 3500],
      ['two parts', `${header}.${payload}`, 3500],
      ['four parts', `${good}.${signature}`, 3500],
      ['only dots', '..', 3500],
      ['many dots', '.'.repeat(1900), 3500],
      ['no header', `.${payload}.${signature}`, 3500],
      ['no payload', `${header}..${signature}`, 3500],
      ['no signature', `${header}.${payload}.`, 3500],
      ['half a signature', `${header}.${payload}.${signature.slice(0, 20)}`, 3500],
      ['a longer signature', `${header}.${payload}.${signature}AAAA`, 3500],
      ['padding', `${good}=`, 3500],
      ['the other alphabet', `${header}.${payload}.+/${signature.slice(2)}`, 3500],
      ['a space before it', ` ${good}`, 3500],
      ['a line break behind it', `${good}\n`, 3500],
      ['a zero in it', `${header}.${payload}\0.${signature}`, 3500],
      ['other claims under the same signature', `${header}.${part({ sub: '1' })}.${signature}`, 3500],
      ['the parts of two tokens', `${header}.${hs({}, { sub: '1' }).split('.')[1]}.${signature}`, 3500],
      ['longer than size_max', hs({}, { sub: '42', x: 'x'.repeat(2000) }), 3500],
      ['size_max and no more', fitted(2000), 'ok'],
      ['one more', fitted(2001), 3500],
    ]);
  });

  test('claims', () => {
    const at = now();
    return holds(server, [
      ['expired', hs({}, { sub: '42', exp: at - 60 }), 109],
      ['expired at zero', hs({}, { sub: '42', exp: 0 }), 109],
      ['expired before 1970', hs({}, { sub: '42', exp: -1 }), 109],
      ['not yet valid', hs({}, { sub: '42', nbf: at + 60 }), 109],
      ['made in the future', hs({}, { sub: '42', iat: at + 60 }), 'ok'],
      ['exp text', hs({}, { sub: '42', exp: String(at + 60) }), 3500],
      ['exp a list', hs({}, { sub: '42', exp: [at + 60] }), 3500],
      ['exp true', hs({}, { sub: '42', exp: true }), 3500],
      ['exp an object', hs({}, { sub: '42', exp: {} }), 3500],
      ['exp huge', text(`{"sub":"42","exp":1e300}`), 'ok'],
      ['exp beyond 64 bits', text(`{"sub":"42","exp":99999999999999999999}`), 'ok'],
      ['exp NaN', text(`{"sub":"42","exp":NaN}`), 3500],
      ['nbf text', hs({}, { sub: '42', nbf: String(at - 60) }), 3500],
      ['iat text', hs({}, { sub: '42', iat: String(at - 60) }), 3500],
      ['jti a number', hs({}, { sub: '42', jti: 1 }), 3500],
      ['user a number', hs({}, { sub: 42 }), 3500],
      ['user a list', hs({}, { sub: ['42'] }), 3500],
      ['two users', text('{"sub":"1","sub":"42"}'), 3500],
      ['two ends', text(`{"sub":"42","exp":1,"exp":${at + 60}}`), 3500],
      ['expire_at text', hs({}, { sub: '42', expire_at: '1' }), 3500],
      ['expire_at over', hs({}, { sub: '42', expire_at: at - 1 }), 110],
      ['expire_at before there was time', hs({}, { sub: '42', expire_at: -1 }), 'ok'],
      ['expire_at never, exp over', hs({}, { sub: '42', expire_at: 0, exp: at - 60 }), 109],
      ['b64info no base64', hs({}, { sub: '42', b64info: '%' }), 3500],
      ['b64info a number', hs({}, { sub: '42', b64info: 1 }), 3500],
      ['channels text', hs({}, { sub: '42', channels: 'a' }), 3500],
      ['a channel without a name', hs({}, { sub: '42', channels: [''] }), 3500],
      ['a channel of no namespace', hs({}, { sub: '42', channels: ['nowhere:a'] }), 102],
      ['a channel clients could not name', hs({}, { sub: '42', channels: ['ü'] }), 'ok'],
      ['more channels than there may be', hs({}, { sub: '42', channels: Array.from({ length: 129 }, (_, n) => `c${n}`) }), 3505],
      ['subs a list', hs({}, { sub: '42', subs: ['a'] }), 3500],
      ['sub a list', hs({}, { sub: '42', subs: { a: [1, 2, 3] } }), 3500],
      ['override of the wrong type', hs({}, { sub: '42', subs: { a: { override: { force_recovery: true } } } }), 3500],
      ['override without value', hs({}, { sub: '42', subs: { a: { override: { force_recovery: {} } } } }), 'ok'],
      ['caps an object', hs({}, { sub: '42', caps: {} }), 3500],
      ['caps of a kind nobody knows', hs({}, { sub: '42', caps: [{ channels: ['a'], match: 'glob', allow: ['sub'] }] }), 3500],
      ['caps with a broken expression', hs({}, { sub: '42', caps: [{ channels: ['('], match: 'regex', allow: ['sub'] }] }), 3500],
      ['caps with a huge expression', hs({}, { sub: '42', caps: [{ channels: ['(a{999}){999}'], match: 'regex' }] }), 3500],
      ['caps with nine expressions', hs({}, { sub: '42', caps: [{ channels: [...'abcdefghi'], match: 'regex' }] }), 3500],
      ['a token of a subscription', hs({}, { sub: '42', channel: 'a' }), 3500],
      ['claims a text', text('"42"'), 3500],
      ['claims nothing', text(''), 3500],
      ['claims and more', text('{"sub":"42"}{}'), 3500],
      ['deep', text(`{"sub":"42","x":${'['.repeat(600)}${']'.repeat(600)}}`), 'ok'],
    ]);
  });

  test('tokens of subscriptions', async () => {
    const raw = async (given) => {
      const one = await Raw.open(server.ws);
      await one.call({ id: 1, connect: { token: token({ sub: '42' }) } });
      one.send({ id: 2, subscribe: { channel: '$room', token: given } });
      const answer = await until(() => one.messages.find((it) => it.id === 2) ?? one.close, 'an answer or the end');
      one.end();
      return answer.code ?? answer.error?.code ?? 'ok';
    };
    const claims = { sub: '42', channel: '$room' };
    await holds(
      server,
      [
        ['good', token(claims), 'ok'],
        ['none', '', 103],
        ['no token', 'x', 103],
        ['alg none', made({ alg: 'none' }, claims, () => Buffer.alloc(0)), 103],
        ['forged', token(claims, { secret: 'other' }), 103],
        ['expired', token(claims, { ttl: -60 }), 109],
        ['not yet valid', token({ ...claims, nbf: now() + 60 }), 109],
        ['expire_at over', token({ ...claims, expire_at: now() - 1 }), 110],
        ['of a connection', token({ sub: '42' }), 103],
        ['of another channel', token({ ...claims, channel: '$other' }), 3500],
        ['of another user', token({ ...claims, sub: '43' }), 3500],
        ['of nobody', token({ channel: '$room' }), 3500],
        ['of another client', token({ ...claims, client: 'x' }), 3500],
        ['channel a list', token({ ...claims, channel: ['$room'] }), 103],
        ['info broken', token({ ...claims, b64info: '%' }), 103],
      ],
      raw,
    );
  });

  test('nobody is stuck: afterwards good tokens still open', async () => {
    assert.equal(await outcome(server, { token: hs({}) }), 'ok');
    const info = await server.api('info', {});
    assert.ok(info.nodes[0].num_clients <= 1, JSON.stringify(info));
  });
});

/** A good token of exactly so many bytes. */
function fitted(length) {
  for (let n = 0; ; n += 1) {
    for (const sub of ['4', '42', '422']) {
      const it = hs({}, { sub, x: 'x'.repeat(n) });
      if (it.length === length) return it;
      assert.ok(it.length < length + 8);
    }
  }
}

test('issuer, audience and the claim of the user', async () => {
  const server = await guarded({ hmac_secret_key: SECRET, issuer: 'me', audience: 'us', user_id_claim: 'uid' });
  const claims = { iss: 'me', aud: 'us', uid: '42' };
  const row = (what, changes, expected) => [what, hs({}, { ...claims, ...changes }), expected];
  try {
    await holds(server, [
      row('good', {}, 'ok'),
      row('one of several audiences', { aud: ['them', 'us'] }, 'ok'),
      row('another audience', { aud: 'them' }, 3500),
      row('longer', { aud: 'us2' }, 3500),
      row('none of several', { aud: ['them', 'all'] }, 3500),
      row('an empty list', { aud: [] }, 3500),
      row('no audience', { aud: undefined }, 3500),
      row('audience a number', { aud: 1 }, 3500),
      row('audience a list of lists', { aud: [['us']] }, 3500),
      row('another issuer', { iss: 'you' }, 3500),
      row('a list of issuers', { iss: ['me'] }, 3500),
      row('no issuer', { iss: undefined }, 3500),
      row('another letter case', { iss: 'Me' }, 3500),
      row('another audience and expired', { aud: 'them', exp: 1 }, 3500),
      row('the user a number', { uid: 42 }, 3500),
      row('no user: nobody', { uid: undefined, sub: '42' }, 'ok'),
    ]);
  } finally {
    await server.stop();
  }
});

describe('JWKS', () => {
  const jwkOf = (pair, kid, more = {}) => ({ ...pair.publicKey.export({ format: 'jwk' }), kid, ...more });
  const ed = [1, 2].map(() => generateKeyPairSync('ed25519'));
  const eddsa = (pair) => (signed) => sign(null, Buffer.from(signed), pair.privateKey);
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const good = jwkOf(ed[0], 'good');
  const json = (value) => (response) => response.end(JSON.stringify(value));
  /** What the endpoint of each case answers. */
  const SAYS = {
    good: json({ keys: [good, jwkOf(keys.rsa, 'rsa'), jwkOf(keys.rsa, 'rs512', { alg: 'RS512' })] }),
    down: (response) => response.socket.destroy(),
    broken: (response) => response.end('{"keys":['),
    list: json([good]),
    empty: json({ keys: [] }),
    missing: (response) => response.writeHead(404).end(JSON.stringify({ keys: [good] })),
    failing: (response) => response.writeHead(500).end(JSON.stringify({ keys: [good] })),
    huge: (response) => response.end(`{"keys":[${JSON.stringify(good)}],"x":"${'x'.repeat(1 << 20)}"}`),
    moved: (response) => response.writeHead(302, { Location: '/good' }).end(),
    twice: json({ keys: [good, jwkOf(ed[1], 'good')] }),
    odd: json({
      keys: [
        good,
        jwkOf(weak, 'weak'),
        jwkOf(ed[1], 'enc', { use: 'enc' }),
        jwkOf(ed[1], 'alg', { alg: 'RS256' }),
        { kty: 'oct', kid: 'oct', k: part(SECRET) },
        { kty: 'RSA', kid: 'half', n: 'AQAB' },
        { kty: 'OKP', crv: 'X25519', kid: 'x', x: good.x },
        { kty: 'EC', crv: 'P-256', kid: 'point', x: 'AA', y: 'AA' },
        { kty: 'OKP', crv: 'Ed25519', x: good.x },
      ],
    }),
    slow: () => {},
  };
  const asked = {};
  let endpoint;
  let server;
  before(async () => {
    endpoint = http.createServer((request, response) => {
      const name = request.url.slice(1);
      asked[name] = (asked[name] ?? 0) + 1;
      (SAYS[name] ?? SAYS.missing)(response);
    });
    await new Promise((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
    server = await guarded({
      jwks_public_endpoint: `http://127.0.0.1:${endpoint.address().port}/{{realm}}`,
      issuer_regex: '^https://id[.]example/(?P<realm>[a-z]+)$',
      insecure_skip_jwks_endpoint_safety_check: true,
      hmac_secret_key: SECRET,
    });
  });
  after(async () => {
    await server?.stop();
    endpoint?.closeAllConnections();
    endpoint?.close();
  });
  const by = (pair, realm, header, more = {}) =>
    made({ alg: 'EdDSA', kid: 'good', ...header }, { sub: '42', iss: `https://id.example/${realm}`, ...more }, eddsa(pair));

  test('what the endpoint may be', async () => {
    await holds(server, [
      ['good', by(ed[0], 'good'), 'ok'],
      ['down', by(ed[0], 'down'), 100],
      ['half a document', by(ed[0], 'broken'), 100],
      ['a list', by(ed[0], 'list'), 100],
      ['no keys', by(ed[0], 'empty'), 100],
      ['404, whatever it says', by(ed[0], 'missing'), 100],
      ['500, whatever it says', by(ed[0], 'failing'), 100],
      ['huge', by(ed[0], 'huge'), 100],
      ['a redirect is not followed', by(ed[0], 'moved'), 100],
      ['two keys of one name: the first', by(ed[0], 'twice'), 'ok'],
      ['and not the second', by(ed[1], 'twice'), 3500],
    ]);
    assert.equal(asked.good, 1, 'once, and the redirect brought nobody');
  });

  test('which keys count', () => {
    const iss = (realm) => ({ sub: '42', iss: `https://id.example/${realm}` });
    return holds(server, [
      ['a good one beside odd ones', by(ed[0], 'odd'), 'ok'],
      ['RSA of 1024 bits', made({ alg: 'RS256', kid: 'weak' }, iss('odd'), rsa(weak.privateKey)), 3500],
      ['a key for encryption', by(ed[1], 'odd', { kid: 'enc' }), 3500],
      ['a key for another algorithm', by(ed[1], 'odd', { kid: 'alg' }), 3500],
      ['a secret in the open', made({ alg: 'HS256', kid: 'oct' }, iss('odd'), hmac(SECRET)), 3500],
      ['half a key', made({ alg: 'RS256', kid: 'half' }, iss('odd'), rsa(keys.rsa.privateKey)), 3500],
      ['a key for agreement', by(ed[0], 'odd', { kid: 'x' }), 3500],
      ['no point of the curve', made({ alg: 'ES256', kid: 'point' }, iss('odd'), () => Buffer.alloc(64)), 3500],
      ['a key without a name', by(ed[0], 'odd', { kid: '' }), 3500],
      ['no name in the token', by(ed[0], 'odd', { kid: undefined }), 3500],
      ['RS256 by a key for it', made({ alg: 'RS256', kid: 'rsa' }, iss('good'), rsa(keys.rsa.privateKey)), 'ok'],
      ['RS256 by a key for RS512', made({ alg: 'RS256', kid: 'rs512' }, iss('good'), rsa(keys.rsa.privateKey)), 3500],
      ['RS256 by the name of another type', made({ alg: 'RS256', kid: 'good' }, iss('good'), rsa(keys.rsa.privateKey)), 3500],
      ['HS256 by a public key', made({ alg: 'HS256', kid: 'good' }, iss('good'), hmac(Buffer.from(good.x, 'base64url'))), 3500],
      ['HS256 by the secret of the configuration', made({ alg: 'HS256', kid: 'good' }, iss('good'), hmac(SECRET)), 3500],
      ['forged', by(ed[1], 'good'), 3500],
      ['expired', by(ed[0], 'good', {}, { exp: 1 }), 109],
    ]);
  });

  test('who may not have been issued it asks nobody', async () => {
    const before = { ...asked };
    await holds(server, [
      ['another issuer', by(ed[0], 'x', {}, { iss: 'https://evil.example/good' }), 3500],
      ['a longer one', by(ed[0], 'x', {}, { iss: 'https://id.example/good/more' }), 3500],
      ['a path upwards', by(ed[0], 'x', {}, { iss: 'https://id.example/../secret' }), 3500],
      ['a query', by(ed[0], 'x', {}, { iss: 'https://id.example/good?x' }), 3500],
      ['none', by(ed[0], 'x', {}, { iss: undefined }), 3500],
      ['a list', by(ed[0], 'x', {}, { iss: ['https://id.example/good'] }), 3500],
    ]);
    assert.deepEqual(asked, before);
  });

  test('fifty tokens by unknown keys are two fetches at most', async () => {
    const rows = Array.from({ length: 50 }, (_, n) => [`kid ${n}`, by(ed[0], 'good', { kid: `unknown-${n}` }), 3500]);
    await holds(server, rows);
    assert.ok(asked.good <= 2, `${asked.good}`);
    assert.equal(await outcome(server, { token: by(ed[0], 'good') }), 'ok');
  });

  test('an endpoint that never answers: come again, and others are served meanwhile', async () => {
    const slow = outcome(server, { token: by(ed[0], 'slow') });
    assert.equal(await outcome(server, { token: by(ed[0], 'good') }), 'ok');
    assert.equal(await slow, 100);
  });
});

describe('origins', () => {
  const PATHS = { websocket: '/connection/websocket', http_stream: '/connection/http_stream', sse: '/connection/sse?cf_connect=%7B%7D' };
  let server;
  before(async () => {
    server = await Server.start({
      http_stream: { enabled: true },
      sse: { enabled: true },
      client: { allowed_origins: ['https://app.example', 'https://*.wild.example', 'http://localhost:3000'], allow_anonymous_connect_without_token: true },
    });
  });
  after(() => server?.stop());

  /** The status a page of this origin sees. */
  const status = (path, origin) =>
    new Promise((resolve, reject) => {
      const upgrade = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' };
      const headers = { ...(path === PATHS.websocket ? upgrade : {}), ...(origin === undefined ? {} : { Origin: origin }) };
      const method = path === PATHS.http_stream ? 'POST' : 'GET';
      const request = http.request({ host: '127.0.0.1', port: server.port, path, method, headers, agent: false });
      const done = (response) => {
        request.destroy();
        resolve(response.statusCode);
      };
      request.on('response', done).on('upgrade', done).on('error', reject);
      request.end(method === 'POST' ? '{"id":1,"connect":{}}' : undefined);
    });

  for (const [name, path] of Object.entries(PATHS)) {
    const yes = name === 'websocket' ? 101 : 200;
    test(name, async () => {
      const rows = [
        [undefined, yes],
        ['https://app.example', yes],
        ['HTTPS://APP.example', yes],
        ['https://app.example:443', yes],
        ['https://a.wild.example', yes],
        ['https://a.b.wild.example', yes],
        ['http://localhost:3000', yes],
        ['null', 403],
        ['', 403],
        ['*', 403],
        ['http://app.example', 403],
        ['https://app.example:8443', 403],
        ['https://app.example.evil.net', 403],
        ['https://evilapp.example', 403],
        ['https://app.example@evil.net', 403],
        ['https://evil.net/app.example', 403],
        ['https://evil.net#.wild.example', 403],
        ['https://evil.net?.wild.example', 403],
        ['https://evil.net\\.wild.example', 403],
        ['https://wild.example', 403],
        ['https://.wild.example', yes],
        ['https://a.wild.example.evil.net', 403],
        ['http://a.wild.example', 403],
        ['http://localhost', 403],
        ['http://localhost:30000', 403],
        ['file://', 403],
        ['app.example', 403],
      ];
      const found = await Promise.all(rows.map(async ([origin]) => [origin, await status(path, origin)]));
      assert.deepEqual(found, rows);
    });
  }
});

describe('limits', () => {
  const open = { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true, allow_publish_for_client: true, allow_publish_for_anonymous: true };
  let server;
  before(async () => {
    server = await Server.start({
      http_server: { address: '127.0.0.1', header_size_max: 2048, header_count_max: 20, body_size_max: 3000 },
      http_stream: { enabled: true, max_request_body_size: 500 },
      emulation: { max_request_body_size: 500 },
      websocket: { message_size_limit: 1000 },
      client: {
        allow_anonymous_connect_without_token: true,
        token: { hmac_secret_key: SECRET, size_max: 500 },
        channel_limit: 2,
        user_connection_limit: 1,
        tags_filter_size_max: 64,
        stale_close_delay: '1s',
        denials_max: 1,
        rate_limit: { client_command: { enabled: true, presence: { enabled: true, buckets: [{ rate: 1, interval: '1h' }] } } },
      },
      channel: {
        max_length: 20,
        without_namespace: { ...open, allow_tags_filter: true },
        namespaces: [{ name: 'map', ...open, subscription_type: 'map', map: { mode: 'persistent', keys_max: 1, allow_publish_for_client: true, allow_publish_for_anonymous: true } }],
      },
    });
  });
  after(() => server?.stop());

  /** What the last of these commands is told, or how the connection ends. */
  async function last(commands, connect = {}) {
    const raw = await Raw.open(server.ws);
    raw.send({ id: 1, connect });
    for (const [n, command] of commands.entries()) raw.send({ id: n + 2, ...command });
    const id = commands.length + 1;
    const answer = await until(() => raw.messages.find((it) => it.id === id) ?? raw.close, 'an answer or the end');
    raw.end();
    return answer.code ?? answer.error?.code ?? 'ok';
  }
  const subscribe = (channel, more) => ({ subscribe: { channel, ...more } });
  const eq = (val) => ({ key: 'k', cmp: 'eq', val });

  test('of commands', async () => {
    const rows = [
      ['as many channels as there may be', [subscribe('a'), subscribe('b')], 'ok'],
      ['one more', [subscribe('a'), subscribe('b'), subscribe('c')], 106],
      ['a name as long as may be', [subscribe('x'.repeat(20))], 'ok'],
      ['a longer name', [subscribe('x'.repeat(21))], 107],
      ['a small filter', [subscribe('a', { tf: eq('x') })], 'ok'],
      ['a filter that is too large', [subscribe('a', { tf: eq('x'.repeat(64)) })], 106],
      ['a message that is too large', [{ publish: { channel: 'a', data: 'x'.repeat(1000) } }], 1009],
      ['more than a bucket holds', [1, 2].map(() => ({ presence: { channel: 'a' } })), 111],
    ];
    for (const [what, commands, expected] of rows) assert.equal(await last(commands), expected, what);
  });

  test('of connections', async () => {
    assert.equal(await last([], { token: token({ sub: '42', channels: ['a', 'b', 'c'] }) }), 3505);
    assert.equal(await last([], { token: token({ sub: '42', x: 'x'.repeat(500) }) }), 3500);
    const first = await Raw.open(server.ws);
    await first.call({ id: 1, connect: { token: token({ sub: '7' }) } });
    assert.equal(await last([], { token: token({ sub: '7' }) }), 3504);
    first.end();
    const silent = await Raw.open(server.ws);
    assert.equal((await silent.ended()).code, 3502);
  });

  test('of requests', async () => {
    const post = (path, body, headers = {}) =>
      fetch(`${server.http}${path}`, { method: 'POST', body, headers }).then((response) => {
        response.body?.cancel();
        return response.status;
      });
    const key = { 'X-API-Key': server.key };
    const many = Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`x-${n}`, '1']));
    const rows = [
      ['a stream', ['/connection/http_stream', '{"id":1,"connect":{}}'], 200],
      ['a stream with a large body', ['/connection/http_stream', `{"id":1,"connect":{"data":"${'x'.repeat(500)}"}}`], 413],
      ['large commands', ['/emulation', 'x'.repeat(501)], 413],
      ['a large call', ['/api/publish', `{"channel":"a","data":"${'x'.repeat(3000)}"}`, key], 413],
      ['a large head', ['/api/publish', '{}', { ...key, 'X-More': 'x'.repeat(2048) }], 431],
      ['many fields', ['/api/publish', '{}', { ...key, ...many }], 431],
    ];
    for (const [what, request, expected] of rows) assert.equal(await post(...request), expected, what);
  });

  test('of the server API', async () => {
    const call = async (method, body) => (await (await server.request(method, body)).json()).error?.code ?? 'ok';
    assert.equal(await call('map_publish', { channel: 'map:a', key: 'k', data: 1 }), 'ok');
    assert.equal(await call('map_publish', { channel: 'map:a', key: 'l', data: 1 }), 106);
    assert.equal(await call('revoke_token', { uid: '1' }), 'ok');
    assert.equal(await call('revoke_token', { uid: '2' }), 106);
  });
});
