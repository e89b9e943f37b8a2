/** A manifest that is here, by tag and by digest, against NGINX and against the registry everybody runs as a cache. */
import { join } from 'node:path'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { startNginx } from '../support/nginx.ts'
import { tempFolder } from '../support/temp.ts'
import { median, requestRate, takeTurns } from './measure.ts'
import { atLeast, information, perSecond, type Row, times } from './report.ts'
import { manifestPath, type Scene, storedPath, TAG } from './scene.ts'

const ROUNDS = 5
const SECONDS = 3
const CONNECTIONS = 32
const BOUNDS = { nginx: 0.25, cacheByTag: 80, cacheByDigest: 25 }

export async function measureWarmManifest(scene: Scene): Promise<Row[]> {
  // As servers are run: each with its access log in a file; and, equals again, both without.
  await using logs = await tempFolder('bench-logs')
  const config = { tags: { trust: '60s' } }
  await using site = await scene.startSite({ config, logFile: join(logs.path, 'access.log') })
  await using silentSite = await scene.startSite({ config: { ...config, log: { level: 'warn' } } })
  const servers = [{ root: scene.primary.root }]
  await using nginx = await startNginx({ servers, accessLog: join(logs.path, 'nginx.log') })
  await using silentNginx = await startNginx({ servers })
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
    silentByTag: silentSite.url + manifestPath(TAG),
    nginx: nginx.url + storedPath(scene.image),
    silentNginx: silentNginx.url + storedPath(scene.image),
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
    silentNginx: () => rate(urls.silentNginx, SECONDS),
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
  const silentWork = `${byTag}, neither with an access log`
  const onlyOurs = `${byTag}, only ours with an access log`
  const against = `NGINX ${perSecond(median(rates.silentNginx))}`
  const ratio = median(rates.siteByTag) / median(rates.silentNginx)
  return [
    row(byTag, rates.siteByTag, 'NGINX', rates.nginx, BOUNDS.nginx),
    row(byTag, rates.siteByTag, 'docker-registry', rates.cacheByTag, BOUNDS.cacheByTag),
    row('by digest', rates.siteByDigest, 'NGINX', rates.nginx, BOUNDS.nginx),
    row('by digest', rates.siteByDigest, 'docker-registry', rates.cacheByDigest, BOUNDS.cacheByDigest),
    row(silentWork, rates.silentByTag, 'NGINX', rates.silentNginx, BOUNDS.nginx),
    {
      ...information(`warm manifest ${onlyOurs}`, perSecond(median(rates.siteByTag)), against),
      ratio: times(ratio),
    },
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
