import { inspect } from 'node:util'
import { expect, it } from 'vitest'
import { signingKey } from '../support/keys.ts'
import { tempFolder } from '../support/temp.ts'
import { configOf, SMALLEST } from './given.ts'

it('fills in every default of the documentation', async () => {
  const config = await configOf(SMALLEST)

  expect(config).toMatchObject({
    log: { level: 'info' },
    http: {
      listen: { host: '127.0.0.1', port: 5010 },
      host: undefined,
      secret: undefined,
      trustedProxies: [],
      drainTimeoutMs: 30_000,
      idleTimeoutMs: 300_000,
      tls: undefined,
      limits: { connections: 1000, fills: 100, uploadBytesPerHour: undefined, maxFills: 64 },
    },
    admin: { listen: { host: '127.0.0.1', port: 5011 }, token: undefined },
    upstream: {
      origin: 'https://registry.primary.example.com',
      auth: undefined,
      tls: { caFile: undefined, client: undefined },
      timeouts: { connectMs: 2000, tagMs: 900, headMs: 30_000, writeMs: 900_000, idleMs: 60_000 },
      proxies: { httpProxy: undefined, httpsProxy: undefined, noProxy: undefined },
    },
    auth: { kind: 'none', push: false, public: false },
    storage: { rootDirectory: '/var/lib/geo-registry', minFreeFraction: 0.05 },
    tags: { trustMs: 0, freshness: 'ask', maxStalenessMs: undefined },
    follow: undefined,
    relay: undefined,
    digests: { recheckMs: 86_400_000 },
    outage: { maxStaleMs: 86_400_000 },
    replication: { deleteGraceMs: 604_800_000 },
    files: [],
    secrets: [],
  })
  expect(config.site.name).not.toBe('')
})

it('lets nobody change what was loaded', async () => {
  const config = await configOf(SMALLEST)

  expect(() => Object.assign(config.http.limits, { fills: 1 })).toThrow(TypeError)
  expect(() => Object.assign(config.upstream.timeouts, { tagMs: 1 })).toThrow(TypeError)
  expect(() => Object.assign(config, { auth: {} })).toThrow(TypeError)
})

it('reads a whole site of GitLab, every setting of it', async () => {
  await using folder = await tempFolder('config')
  const key = await signingKey()
  const certificate = await folder.write('tls.crt', key.certificatePem)
  const keyFile = await folder.write('tls.key', key.privateKeyPem, 0o600)
  const secretFile = await folder.write('secret', 'sealed\n')

  const config = await configOf(`
version: 1
site: { name: tokyo }
log: { level: warn }
http:
  addr: "[::]:5443"
  host: https://registry.example.com/
  secretfile: ${secretFile}
  trustedproxies: [10.0.0.0/8, "fd00::/8"]
  tls: { certificate: ${certificate}, key: ${keyFile} }
  limits: { uploadbytes: 10GiB, connections: 7 }
  admin: { addr: 0.0.0.0:5011, token: admin-token }
upstream:
  url: https://registry.primary.example.com:8443/
  auth: { keyfile: ${keyFile}, issuer: omnibus-gitlab-issuer, service: container_registry }
  tls: { cafile: ${certificate}, certificatefile: ${certificate}, keyfile: ${keyFile} }
  timeouts: { tag: 1500ms }
auth:
  token:
    realm: https://gitlab.example.com/jwt/auth
    service: container_registry
    issuer: omnibus-gitlab-issuer
    rootcertbundle: ${certificate}
    services: ["https://gitlab.example.com/jwt/auth", "http://127.0.0.1:8181/jwt/auth"]
storage: { filesystem: { rootdirectory: ${folder.path} }, minfree: 0.5% }
tags: { trust: 0 }
outage: { maxstale: 7d }
`)

  expect(config.http).toMatchObject({
    listen: { host: '::', port: 5443 },
    host: 'https://registry.example.com',
    trustedProxies: ['10.0.0.0/8', 'fd00::/8'],
    tls: { certificateFile: certificate, keyFile },
    limits: { uploadBytesPerHour: 10 * 2 ** 30, connections: 7, fills: 100 },
  })
  expect(config.http.secret?.reveal()).toBe('sealed')
  expect(config.admin.token?.reveal()).toBe('admin-token')
  expect(config.upstream).toMatchObject({
    origin: 'https://registry.primary.example.com:8443',
    auth: { kind: 'key', keyFile, issuer: 'omnibus-gitlab-issuer', service: 'container_registry' },
    tls: { caFile: certificate, client: { certificateFile: certificate, keyFile } },
    timeouts: { tagMs: 1500, connectMs: 2000 },
  })
  expect(config.auth).toMatchObject({
    kind: 'token',
    rootCertBundleFile: certificate,
    jwksFile: undefined,
    services: ['https://gitlab.example.com/jwt/auth', 'http://127.0.0.1:8181/jwt/auth'],
  })
  expect(config.storage).toEqual({ rootDirectory: folder.path, minFreeFraction: 0.005 })
  expect(config.tags.trustMs).toBe(0)
  expect(config.outage.maxStaleMs).toBe(7 * 86_400_000)
  expect(new Set(config.files)).toEqual(new Set([secretFile, certificate, keyFile]))
})

it('keeps secrets out of whatever prints the configuration', async () => {
  await using folder = await tempFolder('config')
  const passwordFile = await folder.write('password', 'from-a-file')
  const config = await configOf(
    `${SMALLEST}
http: { secret: written-here }
`
      .replace('.com" }', `.com", auth: { username: u, passwordfile: ${passwordFile} } }`)
      .replace('none:', 'none: { public: true }'),
  )

  expect(config.secrets.map((secret) => secret.reveal()).sort()).toEqual(['from-a-file', 'written-here'])
  const shown = JSON.stringify(config) + inspect(config, { depth: null }) + String(config.http.secret)
  expect(shown).not.toMatch(/from-a-file|written-here/)
})

it('reveals the new secret once its file was read again, and keeps the old one when that fails', async () => {
  await using folder = await tempFolder('config')
  const file = await folder.write('secret', 'old')
  const { secret } = (await configOf(`${SMALLEST}\nhttp: { secretfile: ${file} }`)).http

  await folder.write('secret', 'new\r\n')
  secret?.refresh()
  expect(secret?.reveal()).toBe('new')

  await folder.write('secret', '')
  expect(() => secret?.refresh()).toThrow(`${file} is empty`)
  expect(secret?.reveal()).toBe('new')
})
