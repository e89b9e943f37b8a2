import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config.ts'
import { faultsOf, SMALLEST } from './given.ts'

describe('faults', () => {
  it('are all reported at once, each with its path, what was expected, and the line', async () => {
    const faults = await faultsOf(`version: 2
sit: { name: tokyo }
http:
  draintimeout: 10
  trustedproxies: [10.0.0.0/8, 10.0.0.0/99]
  limits: { fills: 0 }
upstream: 5
auth: { none: { push: "yes" } }
storage: { filesystem: { rootdirectory: [a] } }
`)

    expect(faults).toEqual([
      'sit: no such setting; did you mean site? (config.yml:2)',
      'upstream: expected a section with url, auth, tls, timeouts (config.yml:7)',
      'version: expected 1, got the number 2 (config.yml:1)',
      'http.trustedproxies[1]: expected a network such as 10.0.0.0/8, fd00::/8 or 192.0.2.7, got "10.0.0.0/99" (config.yml:5)',
      'http.draintimeout: expected a duration such as 0s, 10s or 15m, at most 24d, got the number 10 (config.yml:4)',
      'http.limits.fills: expected a whole number from 1, got the number 0 (config.yml:6)',
      'auth.none.push: expected true or false, got "yes" (config.yml:8)',
      'storage.filesystem.rootdirectory: expected the path of a folder, got a list (config.yml:9)',
      'upstream.url: missing; expected a URL without a path, such as https://registry.example.com',
    ])
  })

  it.each([
    ['http: { adrr: x }', 'http.adrr', 'did you mean http.addr?'],
    ['http: { ADDR: x }', 'http.ADDR', 'did you mean http.addr?'],
    ['HTTP: {}', 'HTTP', 'did you mean http?'],
    ['outage: { maxstalle: 1h }', 'outage.maxstalle', 'did you mean outage.maxstale?'],
    ['tags: { maxstale: 1h }', 'tags.maxstale', 'did you mean outage.maxstale?'],
    ['digests: { constructor: 1 }', 'digests.constructor', 'expected one of recheck'],
    ['http.addr: x', 'http.addr', 'write it as sections, one below the other'],
  ])('tell what %s was probably meant to be', async (yaml, path, hint) => {
    expect(await faultsOf(`${SMALLEST}\n${yaml}`)).toEqual([
      `${path}: no such setting; ${hint} (config.yml:7)`,
    ])
  })

  it('point at the line where the YAML is broken, and complain about nothing else', async () => {
    const faults = await faultsOf('version: 1\nversion: 1\nhttp: [\nsite: {}\n')

    expect(faults.length).toBeGreaterThan(1)
    for (const fault of faults) expect(fault).toMatch(/^configuration: not YAML: .* \(config\.yml:\d+\)$/)
  })

  it('never show a secret, nor a password in a URL', async () => {
    const faults = await faultsOf(
      SMALLEST.replace('https://', 'https://user:hunter2@') +
        'http: { secret: [hunter2], admin: { token: 31337 } }',
    )

    expect(faults.join('\n')).not.toMatch(/hunter2|31337/)
    expect(faults).toContain('http.secret: expected text, got a list (config.yml:6)')
  })

  it('cover waits that a timer cannot hold', async () => {
    const timeouts = SMALLEST.replace('.com" }', '.com", timeouts: { tag: 0s, write: 25d } }')

    expect((await faultsOf(timeouts)).map((fault) => fault.split(':')[0])).toEqual([
      'upstream.timeouts.tag',
      'upstream.timeouts.write',
    ])
  })

  it('follow anchors, and take an alias of nothing for nothing', async () => {
    const aliases = SMALLEST.replace('/var/lib/geo-registry', '&root /etc/passwd')

    expect(await faultsOf(`${aliases}\nhttp: { secretfile: *root, secret: *nowhere }`)).toEqual([
      'http.secret: expected text, got nothing (config.yml:7)',
      'http.secretfile: expected only one of http.secret and http.secretfile (config.yml:7)',
      'http.secretfile: /etc/passwd has several lines; expected a secret on one (config.yml:7)',
      'storage.filesystem.rootdirectory: /etc/passwd is not a folder (config.yml:5)',
    ])
  })

  it('name a file that is missing', () => {
    expect(() => loadConfig({ file: '/nonexistent/config.yml', environment: {} })).toThrow(
      'configuration: /nonexistent/config.yml does not exist',
    )
    expect(() => loadConfig({ file: '/', environment: {} })).toThrow('configuration: / is a folder')
  })
})

describe('contradictions', () => {
  const without = (part: string, by = '') => SMALLEST.replace(part, by)
  const TOKEN = 'realm: "https://gitlab.example.com/jwt/auth", service: s, issuer: i'

  it.each([
    ['two callers', without('none:', `none:, token: { ${TOKEN} }`), ['auth: expected exactly one of']],
    ['no callers', without('auth: { none: }'), ['auth: expected exactly one of auth.token and auth.none']],
    [
      'a token service nobody described',
      without('none:', 'token:'),
      [
        'auth.token.realm: missing',
        'auth.token.service: missing',
        'auth.token.issuer: missing',
        'auth.token: expected rootcertbundle or jwks',
      ],
    ],
    [
      'a token service without keys',
      without('none:', `token: { ${TOKEN} }`),
      ['auth.token: expected rootcertbundle or jwks'],
    ],
    [
      'an open site with a credential',
      without('.com" }', '.com", auth: { username: u, password: p } }'),
      ['auth.none: would show everybody what the credential of this site can read'],
    ],
    [
      'an open site with a client certificate',
      without('.com" }', '.com", tls: { certificatefile: /dev/null, keyfile: /dev/null } }'),
      [
        'auth.none: would show everybody what the credential of this site can read',
        'upstream.tls.certificatefile: /dev/null holds no certificate',
        'upstream.tls.keyfile: /dev/null holds no private key',
      ],
    ],
    [
      'a secret twice',
      `${SMALLEST}\nhttp: { secret: a, secretfile: /dev/null }`,
      ['http.secretfile: expected only one', 'http.secretfile: /dev/null is empty'],
    ],
    [
      'a certificate without its key',
      `${SMALLEST}\nhttp: { tls: { certificate: /nonexistent } }`,
      ['http.tls.key: missing', 'http.tls.certificate: /nonexistent does not exist'],
    ],
    [
      'an admin listener for everybody',
      `${SMALLEST}\nhttp: { admin: { addr: "10.0.0.1:5011" } }`,
      ['http.admin.tokenfile: missing'],
    ],
    [
      'two listeners on one address',
      `${SMALLEST}\nhttp: { admin: { addr: "127.0.0.1:5010" } }`,
      ['http.admin.addr: expected another address than http.addr'],
    ],
    ['every address and no name for clients', `${SMALLEST}\nhttp: { addr: ":5010" }`, ['http.host: missing']],
    [
      'a root that is a file',
      without('/var/lib/geo-registry', '/etc/passwd'),
      ['storage.filesystem.rootdirectory: /etc/passwd is not a folder'],
    ],
  ])('refuse %s', async (_, yaml, expected) => {
    const faults = await faultsOf(yaml)

    expect(faults.map((fault, index) => fault.slice(0, expected[index]?.length))).toEqual(expected)
  })

  it.each([
    [
      'keyfile: /nonexistent, username: u',
      [
        'upstream.auth.username: expected either',
        'upstream.auth.issuer: missing',
        'upstream.auth.service: missing',
        'upstream.auth.keyfile: /nonexistent does not exist',
      ],
    ],
    ['username: u', ['upstream.auth.passwordfile: missing']],
    ['password: p', ['upstream.auth.username: missing']],
    ['', ['upstream.auth: empty; expected keyfile, issuer and service, or username and password']],
  ])('refuse the upstream credential {%s}', async (auth, expected) => {
    const yaml = without('.com" }', `.com", auth: { ${auth} } }`).replace('none:', 'none: { public: true }')
    const faults = await faultsOf(yaml)

    expect(faults.map((fault, index) => fault.slice(0, expected[index]?.length))).toEqual(expected)
  })
})
