/** Blobs that are here, small ones and big ones, against NGINX's sendfile of the same bytes. */
import { join } from 'node:path'
import type { Content } from '../support/content.ts'
import type { GeoRegistry } from '../support/geo-registry.ts'
import { type Nginx, startNginx } from '../support/nginx.ts'
import { tempFolder } from '../support/temp.ts'
import { median, takeTurns } from './measure.ts'
import { throughput } from './readers.ts'
import { atLeast, mebibytes, megabytesPerSecond, type Row } from './report.ts'
import { expectStatus, getBlob, MIB, REPOSITORY, type Scene, storedPath } from './scene.ts'

const ROUNDS = 5
const FOR_MS = 4000
const CASES = [
  { sizeBytes: MIB, connections: 8, bound: 0.4 },
  { sizeBytes: 512 * MIB, connections: 4, bound: 0.5 },
]

export async function measureWarmBlob(scene: Scene): Promise<Row[]> {
  await using logs = await tempFolder('bench-logs')
  await using site = await scene.startSite({ logFile: join(logs.path, 'access.log') })
  await using nginx = await startNginx({
    servers: [{ root: scene.primary.root }],
    accessLog: join(logs.path, 'nginx.log'),
  })
  const rows: Row[] = []
  for (const { sizeBytes, connections, bound } of CASES) {
    const blob = await scene.blob(sizeBytes)
    await expectBlob(scene, site, nginx, blob)
    const figures = await takeTurns(ROUNDS, {
      site: () => throughput(site.url, getBlob(scene, blob), { connections, forMs: FOR_MS }),
      nginx: () =>
        throughput(nginx.url, { path: storedPath(blob), headers: {} }, { connections, forMs: FOR_MS }),
    })
    const [ours, theirs] = [median(figures.site), median(figures.nginx)]
    rows.push(
      atLeast(
        {
          work: `warm blob, ${mebibytes(sizeBytes)} × ${connections} connections`,
          geoRegistry: megabytesPerSecond(ours),
          against: `NGINX sendfile ${megabytesPerSecond(theirs)}`,
        },
        ours / theirs,
        bound,
      ),
    )
  }
  return rows
}

/** Also fills the site, and warms both up. */
async function expectBlob(scene: Scene, site: GeoRegistry, nginx: Nginx, blob: Content): Promise<void> {
  await using fromSite = scene.api(site.url)
  await using fromNginx = scene.api(nginx.url)
  for (const answer of [
    await fromSite.getBlob(REPOSITORY, blob.digest),
    await fromSite.getBlob(REPOSITORY, blob.digest),
    await fromNginx.drain(storedPath(blob)),
  ]) {
    expectStatus(answer, 200)
    if (answer.cut || answer.digest !== blob.digest) throw new Error(`not the bytes of ${blob.digest}`)
  }
}
