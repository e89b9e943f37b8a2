/** A manifest that is here, by tag and by digest, against NGINX and against the registry everybody runs as a cache. */
import { join } from 'node:path'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { startNginx } from '../support/nginx.ts'
import { tempFolder } from '../support/temp.ts'
import { median, requestRate, takeTurns } from './measure.ts'
import { atLeast, information, perSecond, type Row } from './report.ts'
import { manifestPath, type Scene, storedPath, TAG } from './scene.ts'

const ROUNDS = 5
const SECONDS = 3
const CONNECTIONS = 32
const BOUNDS = { nginx: 0.25, cacheByTag: 80, cacheByDigest: 25 }

export async function measureWarmManifest(scene: Scene): Promise<Row[]> {
  // As a site is run: with its access log, here into a file. NGINX of the test kit keeps none.
  await using logs = await tempFolder('bench-logs')
  const config = { tags: { trust: '60s' } }
  await using site = await scene.startSite({ config, logFile: join(logs.path, 'access.log') })
  await using silent = await scene.startSite({ config: { ...config, log: { level: 'warn' } } })
  await using nginx = await startNginx({ servers: [{ root: scene.primary.root }] })
  const { name: username, password } = scene.cacheUser
  await using cache = await startDockerRegistry({
    auth: scene.tokenService,
    proxyOf: scene.primary.url,
    config: { proxy: { username, password } },
  })
  const byDigest = manifestPath(scene.image.digest)
  const urls = {
    siteByTag: site.url + manifestPath(TAG),
    siteByDigest: site.url + byDigest,
    silentByTag: silent.url + manifestPath(TAG),
    nginx: nginx.url + storedPath(scene.image),
    cacheByTag: cache.url + manifestPath(TAG),
    cacheByDigest: cache.url + byDigest,
  }
  const rate = (url: string, seconds: number) =>
    requestRate(url, { headers: scene.pullHeaders, connections: CONNECTIONS, seconds })
  for (const url of Object.values(urls)) {
    await expectManifest(scene, url)
    await rate(url, SECONDS) // Compilers and caches warm up.
  }
  const rates = await takeTurns(ROUNDS, {
    siteByTag: () => rate(urls.siteByTag, SECONDS),
    siteByDigest: () => rate(urls.siteByDigest, SECONDS),
    silentByTag: () => rate(urls.silentByTag, SECONDS),
    nginx: () => rate(urls.nginx, SECONDS),
    cacheByTag: () => rate(urls.cacheByTag, SECONDS),
    cacheByDigest: () => rate(urls.cacheByDigest, SECONDS),
  })
  const size = `${scene.image.bytes.length} bytes × ${CONNECTIONS} connections`
  const row = (
    how: string,
    ours: readonly number[],
    name: string,
    theirs: readonly number[],
    bound: number,
  ) => {
    const figures = {
      work: `warm manifest ${how}, ${size}`,
      geoRegistry: perSecond(median(ours)),
      against: `${name} ${perSecond(median(theirs))}`,
    }
    return atLeast(figures, median(ours) / median(theirs), bound)
  }
  const byTag = 'by confirmed tag (`tags.trust: 60s`)'
  const silentWork = `warm manifest ${byTag}, without our access log`
  return [
    row(byTag, rates.siteByTag, 'NGINX', rates.nginx, BOUNDS.nginx),
    row(byTag, rates.siteByTag, 'docker-registry', rates.cacheByTag, BOUNDS.cacheByTag),
    row('by digest', rates.siteByDigest, 'NGINX', rates.nginx, BOUNDS.nginx),
    row('by digest', rates.siteByDigest, 'docker-registry', rates.cacheByDigest, BOUNDS.cacheByDigest),
    information(silentWork, perSecond(median(rates.silentByTag))),
  ]
}

/** Only equals are compared: the same 200 with the same bytes. Asked twice, as the first fills. */
async function expectManifest(scene: Scene, url: string): Promise<void> {
  for (const _ of ['cold', 'warm']) {
    const response = await fetch(url, { headers: scene.pullHeaders })
    const bytes = Buffer.from(await response.arrayBuffer())
    if (response.status !== 200 || !bytes.equals(scene.image.bytes)) {
      throw new Error(`${url} answers ${response.status}: ${bytes.toString().slice(0, 500)}`)
    }
  }
}
