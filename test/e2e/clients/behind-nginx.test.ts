/**
 * A site between two real NGINXes, as at GitLab: clients reach it by a public name over TLS, and it reaches the primary
 * by another name of a server that has several. The first server of each answers to no right name.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startBuildah } from '../../support/clients/buildah.ts'
import { startContainerd } from '../../support/clients/containerd.ts'
import { startDocker } from '../../support/clients/docker.ts'
import { startPodman } from '../../support/clients/podman.ts'
import { startSkopeo } from '../../support/clients/skopeo.ts'
import { randomContent } from '../../support/content.ts'
import type { Tree } from '../../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../../support/geo-registry.ts'
import { buildImage } from '../../support/images.ts'
import { type SigningKey, signingKey } from '../../support/keys.ts'
import { createLogin } from '../../support/login.ts'
import { type Nginx, startNginx } from '../../support/nginx.ts'
import { pushImage } from '../../support/push-image.ts'
import { createRegistryApi, locationOf, type RegistryApi } from '../../support/registry-api.ts'
import { tempFolder } from '../../support/temp.ts'
import { startTokenService, type TokenService } from '../../support/token-service.ts'
import { until } from '../../support/wait.ts'
import { DEVELOPER, USERS } from './two-sites.ts'

/** RFC 5737: nobody's address. */
const CLIENT_ADDRESS = '203.0.113.7'

const owned = new AsyncDisposableStack()
let tls: SigningKey
let tokens: TokenService
let primary: DockerRegistry
let site: GeoRegistry
/** `localhost:<port>`, over TLS. */
let publicHost: string
let primaryUrl: string
let here: RegistryApi
let caFile: string
let siteConfig: (trusted: readonly string[]) => { config: Tree }

beforeAll(async () => {
  tls = await signingKey({ name: 'nginx' })
  caFile = await owned.use(await tempFolder('ca')).write('ca.crt', tls.certificatePem)
  tokens = owned.use(await startTokenService({ key: await signingKey(), users: USERS }))
  primary = owned.use(await startDockerRegistry({ auth: tokens }))
  const inner = owned.use(await startNamed('127.0.0.1', primary.url))
  primaryUrl = inner.url
  const upstream = { tls: { cafile: caFile } }
  site = owned.use(await startGeoRegistry({ primary: primaryUrl, auth: tokens, config: { upstream } }))
  const outer = owned.use(await startNamed('localhost', site.url))
  publicHost = `localhost:${outer.port}`
  // The public port is known only now.
  siteConfig = (trusted) => ({
    config: { upstream, http: { host: `https://${publicHost}`, trustedproxies: trusted } },
  })
  await site.restart(siteConfig(['127.0.0.1/32']))
  const authorize = createLogin(tokens, DEVELOPER)
  here = owned.use(createRegistryApi(`https://${publicHost}`, { authorize, ca: tls.certificatePem }))
})
afterAll(() => owned.disposeAsync())

/** Only this name leads on; any other gets an answer that is no registry's. */
function startNamed(name: string, origin: string): Promise<Nginx> {
  const wrongName = "location / { default_type text/html; return 404 '<h1>no such server</h1>'; }"
  const servers = [
    { name: 'elsewhere.test', extra: wrongName },
    { name, proxyTo: origin },
  ]
  return startNginx({ servers, tls })
}

it('the primary is asked by its own name: by the one that clients use, another server answers', async () => {
  const ask = (url: string) => here.request('GET', `${url}/v2/`)
  const byItsName = await ask(primaryUrl)
  const byThePublicName = await ask(primaryUrl.replace('127.0.0.1', 'localhost'))
  const throughSite = await here.tags('team/nothing')

  expect(byItsName.status).toBe(200)
  expect([byThePublicName.status, byThePublicName.body.toString()]).toEqual([404, '<h1>no such server</h1>'])
  expect(throughSite.body.toString()).toContain('NAME_UNKNOWN')
})

describe('an upload', () => {
  it.each([
    ['believes the request', undefined],
    ['names itself as the site knows it', () => primaryUrl],
    ['does not know that NGINX speaks TLS for it', () => primaryUrl.replace('https:', 'http:')],
    ['names itself as clients do', () => `https://${publicHost}`],
  ])('stays on the public name where the primary %s', async (title, host) => {
    await primary.restart({ host: host?.() ?? '' })
    const name = `team/${title.split(' ')[0]}`
    const started = await here.startUpload(name)
    const patched = await here.patchUpload(name, locationOf(started), Buffer.from('chunk'))
    const content = await randomContent(5_000_000, { seed: title })
    const pushed = await here.pushBlob(name, content)

    const locations = [started, patched, pushed].map(locationOf)
    for (const location of locations) {
      expect(new URL(location, here.url).host).toBe(publicHost)
      expect(location).not.toContain('_geo=')
    }
    expect([started.status, patched.status, pushed.status]).toEqual([202, 202, 201])
    const scope = `repository:${name}:pull`
    const there = await here.drain(locations[2] ?? '', { scope })
    expect([there.digest, there.headers['geo-registry-source']]).toEqual([content.digest, 'local'])
  })
})

describe('the client’s address', () => {
  async function loggedFor(name: string): Promise<unknown> {
    await here.request('GET', `/v2/${name}/tags/list`, {
      headers: { 'x-forwarded-for': CLIENT_ADDRESS },
      scope: `repository:${name}:pull`,
    })
    const line = () => site.lines.find(({ uri }) => uri === `/v2/${name}/tags/list`)
    return (await until(line, { what: 'the access log' }))['remote_ip']
  }

  it('is in the access log and reaches the primary when NGINX is trusted to name it', async () => {
    expect(await loggedFor('team/trusted')).toBe(CLIENT_ADDRESS)
    const line = () =>
      primary
        .logs()
        .split('\n')
        .find((one) => one.includes('/v2/team/trusted/tags/list'))
    expect(await until(line, { what: 'the primary’s log' })).toContain(
      `http.request.remoteaddr=${CLIENT_ADDRESS}`,
    )
  })

  it('is NGINX’s own when nobody is trusted', async () => {
    await site.restart(siteConfig([]))
    try {
      expect(await loggedFor('team/untrusted')).toBe('127.0.0.1')
    } finally {
      await site.restart(siteConfig(['127.0.0.1/32']))
    }
  })
})

describe('the public name', () => {
  it.each([
    ['docker', startDocker],
    ['podman', startPodman],
    ['buildah', startBuildah],
    ['skopeo', startSkopeo],
  ])('is all that %s needs to log in, push and pull', async (name, start) => {
    await using client = await start()
    const reference = `${publicHost}/team/${name}:v1`
    await client.login(publicHost, DEVELOPER.username, DEVELOPER.password)
    await client.make(reference, name)
    await client.push(reference)
    await client.pull(reference)

    expect((await here.getManifest(`team/${name}`, 'v1')).status).toBe(200)
  })

  it('is trusted by ctr with the certificate of its NGINX: it pulls and pushes', async () => {
    await using containerd = await startContainerd()
    const image = await buildImage({ seed: 'ctr' })
    await pushImage(here, 'team/ctr', 'v1', image)
    const [from, to] = [`${publicHost}/team/ctr:v1`, `${publicHost}/team/ctr-copy:v1`]
    // For a loopback host ctr takes plain HTTP, unless this file says otherwise.
    await using hosts = await tempFolder('hosts')
    const server = `[host."https://${publicHost}"]\n  ca = "${caFile}"\n`
    await hosts.write(`${publicHost}/hosts.toml`, server)
    const user = `${DEVELOPER.username}:${DEVELOPER.password}`
    const transport = ['--hosts-dir', hosts.path, '--user', user]
    await containerd.exec(['content', 'fetch', '--platform', 'linux/amd64', ...transport, from])
    await containerd.exec(['images', 'tag', from, to])
    await containerd.exec(['images', 'push', ...transport, to])

    expect((await here.getManifest('team/ctr-copy', 'v1')).digest).toBe(image.digest)
  })
})
