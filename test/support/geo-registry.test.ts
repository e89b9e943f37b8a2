/** geo-registry as the kit starts it: ready when it says so, killed and started again where it was. */
import { describe, expect, it } from 'vitest'
import { startDockerRegistry } from './docker-registry.ts'
import { startGeoRegistry } from './geo-registry.ts'
import { buildImage } from './images.ts'
import { signingKey } from './keys.ts'
import { createLogin } from './login.ts'
import { pushImage } from './push-image.ts'
import { createRegistryApi } from './registry-api.ts'
import { startTokenService } from './token-service.ts'
import { until } from './wait.ts'

describe('geo-registry as a child', () => {
  it('answers beside its primary, and again after kill -9, with what it logs and uses', async () => {
    const user = { name: 'alice', password: 's3cret', repositories: { 'team/*': ['pull', 'push'] } }
    await using tokens = await startTokenService({ key: await signingKey(), users: [user] })
    await using primary = await startDockerRegistry({ auth: tokens })
    await using site = await startGeoRegistry({ primary: primary.url, auth: tokens })
    const authorize = createLogin(tokens, { username: user.name, password: user.password })
    await using api = createRegistryApi(site.url, { authorize })
    const image = await buildImage({ seed: 'through the site' })

    await pushImage(api, 'team/app', 'v1', image)
    const { pid } = site
    await site.kill()
    await expect(api.getManifest('team/app', 'v1')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await site.start()

    expect((await api.getManifest('team/app', 'v1')).digest).toBe(image.digest)
    expect(site.pid).not.toBe(pid)
    await until(() => site.lines.some((line) => line['uri'] === '/v2/team/app/manifests/v1'), {
      what: 'access log',
    })
    expect((await site.memory()).residentBytes).toBeGreaterThan(10 * 1024 * 1024)
    expect((await site.openFiles()).some((target) => target.startsWith('socket:'))).toBe(true)
    expect(await site.metrics()).toContain('geo_registry_reads_total')
  })

  it('lays overrides over the configuration, and tells why it does not start', async () => {
    const starting = startGeoRegistry({
      primary: 'http://127.0.0.1:1',
      config: { storage: { filesystem: { rootdirectry: '/tmp' } } },
    })

    await expect(starting).rejects.toThrow(/rootdirectry/)
  })
})
