import { describe, expect, it } from 'vitest'
import { ConfigError, loadConfig } from '../../src/config.ts'
import { configOf, faultsOf, SMALLEST } from './given.ts'

/** A whole configuration without a file. */
const ENVIRONMENT = {
  GEO_REGISTRY__VERSION: '1',
  GEO_REGISTRY__UPSTREAM__URL: 'http://127.0.0.1:5000',
  GEO_REGISTRY__AUTH__NONE__PUSH: 'true',
  GEO_REGISTRY__STORAGE__FILESYSTEM__ROOTDIRECTORY: '/srv/registry',
}

describe('environment', () => {
  it('is enough by itself, without a file', () => {
    const { config } = loadConfig({ environment: ENVIRONMENT })

    expect(config.storage.rootDirectory).toBe('/srv/registry')
    expect(config.auth).toEqual({ kind: 'none', push: true, public: false })
  })

  it('wins over the file', async () => {
    const environment = { GEO_REGISTRY__UPSTREAM__URL: 'http://127.0.0.1:5000' }

    expect((await configOf(SMALLEST, environment)).upstream.origin).toBe('http://127.0.0.1:5000')
  })

  it("ignores Kubernetes' service links and everybody else's variables", async () => {
    const environment = {
      GEO_REGISTRY_PORT: 'tcp://10.0.0.1:5010',
      GEO_REGISTRY_SERVICE_HOST: '10.0.0.1',
      GEO_REGISTRY_PORT_5010_TCP_ADDR: '10.0.0.1',
      geo_registry__log__level: 'nonsense',
    }

    expect((await configOf(SMALLEST, environment)).log.level).toBe('info')
  })

  it('takes text as it stands, however much it looks like YAML', async () => {
    const password = '{"x": *y # 007'
    const environment = {
      GEO_REGISTRY__SITE__NAME: '0123',
      GEO_REGISTRY__HTTP__SECRET: password,
      GEO_REGISTRY__HTTP__IDLETIMEOUT: '90s',
    }
    const config = await configOf(SMALLEST, environment)

    expect(config.site.name).toBe('0123')
    expect(config.http.secret?.reveal()).toBe(password)
    expect(config.http.idleTimeoutMs).toBe(90_000)
  })

  it('reads lists, numbers and booleans as YAML', async () => {
    const config = await configOf(SMALLEST, {
      GEO_REGISTRY__HTTP__TRUSTEDPROXIES: '[10.0.0.0/8, "fd00::/8"]',
      GEO_REGISTRY__HTTP__LIMITS__FILLS: '7',
      GEO_REGISTRY__AUTH__NONE__PUBLIC: 'true',
    })

    expect(config.http.trustedProxies).toEqual(['10.0.0.0/8', 'fd00::/8'])
    expect(config.http.limits.fills).toBe(7)
    expect(config.auth).toMatchObject({ public: true })
  })

  it('names the variable that is wrong, and the one that was meant', async () => {
    const faults = await faultsOf(SMALLEST, {
      GEO_REGISTRY__HTTP__ADRR: '127.0.0.1:1',
      GEO_REGISTRY__LOG__LEVEL: 'loud',
      GEO_REGISTRY__HTTP__TRUSTEDPROXIES: '[10.0.0.0/8',
      GEO_REGISTRY__SITE__NAME: '',
    })

    expect(faults).toEqual([
      'GEO_REGISTRY__HTTP__ADRR: no setting has this variable; did you mean GEO_REGISTRY__HTTP__ADDR?',
      'site.name: expected text, got nothing (GEO_REGISTRY__SITE__NAME)',
      'log.level: expected debug, info, warn or error, got "loud" (GEO_REGISTRY__LOG__LEVEL)',
      'http.trustedproxies: expected a list of networks such as [10.0.0.0/8, "fd00::/8"], got "[10.0.0.0/8" (GEO_REGISTRY__HTTP__TRUSTEDPROXIES)',
    ])
  })

  it('says all that is missing when there is nothing at all', () => {
    expect(() => loadConfig({ environment: {} })).toThrow(ConfigError)
    expect(() => loadConfig({ environment: {} })).toThrow(
      /^version: missing.*\nupstream\.url: missing.*\nstorage\.filesystem\.rootdirectory: missing.*\nauth: expected exactly one/,
    )
  })

  it('reads the proxies in either case, the lower one first', async () => {
    const config = await configOf(SMALLEST, {
      HTTPS_PROXY: 'http://upper:3128',
      https_proxy: 'http://user:pass@lower:3128',
      HTTP_PROXY: 'proxy.example.com:8080',
      no_proxy: 'localhost,.example.com',
      http_proxy: '',
    })

    expect(config.upstream.proxies).toEqual({
      httpsProxy: 'http://user:pass@lower:3128/',
      httpProxy: 'http://proxy.example.com:8080/',
      noProxy: 'localhost,.example.com',
    })
  })

  it('refuses a proxy it could not use, without showing a password', async () => {
    const faults = await faultsOf(SMALLEST, { HTTPS_PROXY: 'socks5://user:hunter2@proxy:1080' })

    expect(faults).toEqual(['HTTPS_PROXY: expected the URL of an http or https proxy'])
  })
})
