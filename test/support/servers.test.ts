/** The real servers the kit starts come and go as the tests need them to. */
import { Agent, request } from 'undici'
import { describe, expect, it } from 'vitest'
import { startDockerRegistry } from './docker-registry.ts'
import { buildImage } from './images.ts'
import { signingKey } from './keys.ts'
import { startNginx } from './nginx.ts'
import { pushImage } from './push-image.ts'
import { createRegistryApi } from './registry-api.ts'
import { tempFolder } from './temp.ts'
import { until } from './wait.ts'

describe('docker-registry', () => {
  it('stops, comes back on the same port with its content, and turns read-only', async () => {
    await using registry = await startDockerRegistry()
    await using api = createRegistryApi(registry.url)
    const image = await buildImage()
    await pushImage(api, 'team/app', 'v1', image)

    await registry.stop()
    await expect(api.getManifest('team/app', 'v1')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await registry.start({ readonly: true })

    expect((await api.getManifest('team/app', 'v1')).digest).toBe(image.digest)
    expect((await api.startUpload('team/app')).status).toBe(405)
  })

  it('accepts and never answers while it is frozen', async () => {
    await using registry = await startDockerRegistry()
    await using api = createRegistryApi(registry.url)

    registry.freeze()
    const answered: number[] = []
    const asking = api.request('GET', '/v2/').then(({ status }) => void answered.push(status))
    await expect(api.request('GET', '/v2/', { signal: AbortSignal.timeout(300) })).rejects.toMatchObject({
      name: 'TimeoutError',
    })
    expect(answered).toEqual([])
    registry.thaw()
    await asking

    expect(answered).toEqual([200])
  })

  it('is a pull-through cache where it is told to be one', async () => {
    await using registry = await startDockerRegistry()
    await using cache = await startDockerRegistry({ proxyOf: registry.url })
    await using api = createRegistryApi(registry.url)
    await using cacheApi = createRegistryApi(cache.url)
    const image = await buildImage({ seed: 'cached' })
    await pushImage(api, 'team/app', 'v1', image)

    expect((await cacheApi.getManifest('team/app', 'v1')).digest).toBe(image.digest)
    await registry.stop()
    expect((await cacheApi.getManifest('team/app', 'v1')).digest).toBe(image.digest)
  })

  it('tells why it does not start, and leaves nothing behind', async () => {
    const broken = startDockerRegistry({ config: { storage: { filesystem: undefined, inmemoryy: {} } } })

    await expect(broken).rejects.toThrow(/docker-registry ended[\s\S]*inmemoryy/)
  })

  it('sends notifications where it is told to', async () => {
    await using receiver = await startDockerRegistry() // Anything that answers; what counts is that it was asked.
    await using registry = await startDockerRegistry({
      notifications: {
        endpoints: [
          { name: 'kit', url: `${receiver.url}/notify`, timeout: '1s', threshold: 5, backoff: '1s' },
        ],
      },
    })
    await using api = createRegistryApi(registry.url)
    await pushImage(api, 'team/app', 'v1', await buildImage())

    await until(() => receiver.logs().includes('POST /notify'), { what: 'a notification' })
  })
})

describe('nginx', () => {
  it('serves files, by several names, with TLS', async () => {
    await using folder = await tempFolder('site')
    await folder.write('blob', 'x'.repeat(1000))
    await using registry = await startDockerRegistry()
    const tls = await signingKey({ name: 'nginx', hosts: ['registry.test'] })
    await using nginx = await startNginx({
      servers: [{ root: folder.path }, { name: 'registry.test', proxyTo: registry.url }],
      tls,
    })
    await using agent = new DisposableAgent({ connect: { ca: tls.certificatePem } })

    const file = await request(`${nginx.url}/blob`, { dispatcher: agent })
    const headers = { host: 'registry.test' }
    const ping = await request(`${nginx.url}/v2/`, { dispatcher: agent, headers })
    const upload = await request(`${nginx.url}/v2/a/blobs/uploads/`, {
      dispatcher: agent,
      headers,
      method: 'POST',
    })

    expect((await file.body.text()).length).toBe(1000)
    expect([ping.statusCode, await ping.body.text()]).toEqual([200, '{}'])
    expect(upload.headers['location']).toMatch(/^https:\/\/registry\.test\/v2\/a\/blobs\/uploads\//)
    await upload.body.dump()
  })

  it('tells why it does not start', async () => {
    const broken = startNginx({ servers: [{ extra: 'no_such_directive on;' }] })

    await expect(broken).rejects.toThrow(/no_such_directive/)
  })
})

class DisposableAgent extends Agent {
  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy()
  }
}
