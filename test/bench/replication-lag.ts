/** From a push or a delete on the primary to its being so here, as the primary's notifications make it. */
import { type ReplicatedSite, startReplicatedSite } from '../e2e/replicated-site.ts'
import { buildImage, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { median, percentile } from './measure.ts'
import { tagIsGone, tagIsHere } from './replication-held.ts'
import { absolute, information, milliseconds, type Row } from './report.ts'
import { expectStatus } from './scene.ts'

const PUSHES = 200
const WARM_UP = 10
/** As a pipeline does that builds each commit: the last of them is what counts. */
const BURSTS = 20
const BURST = 5
const REPOSITORIES = Array.from({ length: 8 }, (_, index) => `bench/lag-${index}`)
const BUSY = 'bench/busy'
const BOUND_MS = 1000

interface Pushed {
  readonly repository: string
  readonly tag: string
  readonly image: Image
}

export async function measureReplicationLag(): Promise<Row[]> {
  await using site = await startReplicatedSite({ repositories: [...REPOSITORIES, BUSY] })
  const pushed: Pushed[] = []
  const pushes: number[] = []
  for (let push = 0; push < WARM_UP + PUSHES; push++) {
    const repository = REPOSITORIES[push % REPOSITORIES.length] ?? ''
    const image = await smallImage(push)
    pushes.push(await pushOne(site, { repository, tag: `v${push}`, image }))
    pushed.push({ repository, tag: `v${push}`, image })
  }
  const deletes: number[] = []
  for (const one of pushed) deletes.push(await deleteOne(site, one))
  const bursts: number[] = []
  for (let burst = 0; burst < BURSTS; burst++) bursts.push(await pushBurst(site, burst))
  return [
    row('push on the primary → its blobs and tag here', pushes.slice(WARM_UP)),
    row('delete on the primary → its tag gone here', deletes.slice(WARM_UP)),
    information(
      `${BURST} pushes of one tag in a row → the last one here, loopback, ${bursts.length} times`,
      `median ${milliseconds(median(bursts))}, longest ${milliseconds(Math.max(...bursts))}`,
    ),
  ]
}

async function smallImage(seed: string | number): Promise<Image> {
  return await buildImage({ seed, layers: [10_000, 50_000] })
}

async function pushOne(site: ReplicatedSite, { repository, tag, image }: Pushed): Promise<number> {
  await pushImage(site.there, repository, tag, image)
  const pushedAtMs = performance.now()
  await tagIsHere({ root: site.one.site.root, repository, tag }, image)
  return performance.now() - pushedAtMs
}

async function deleteOne(site: ReplicatedSite, { repository, tag, image }: Pushed): Promise<number> {
  expectStatus(await site.there.deleteManifest(repository, image.digest), 202)
  const deletedAtMs = performance.now()
  await tagIsGone({ root: site.one.site.root, repository, tag })
  return performance.now() - deletedAtMs
}

async function pushBurst(site: ReplicatedSite, burst: number): Promise<number> {
  const images = await Promise.all(
    Array.from({ length: BURST }, (_, index) => smallImage(`${burst}/${index}`)),
  )
  for (const image of images.slice(0, -1)) await pushImage(site.there, BUSY, 'latest', image)
  const image = images.at(-1) ?? (await smallImage(burst))
  return await pushOne(site, { repository: BUSY, tag: 'latest', image })
}

function row(what: string, timesMs: readonly number[]): Row {
  const p99 = percentile(timesMs, 0.99)
  const figures = [
    `p99 ${milliseconds(p99)}`,
    `median ${milliseconds(median(timesMs))}`,
    `longest ${milliseconds(Math.max(...timesMs))}`,
  ]
  return absolute(
    `${what}, loopback, ${timesMs.length} times`,
    figures.join(', '),
    'p99 < 1 s',
    p99 < BOUND_MS,
  )
}
