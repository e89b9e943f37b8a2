/**
 * Clients pull what is here while the replicator copies as fast as it is let, in the same process, against what they get
 * without it. Primary and line share this machine with the site, as they never do: what clients get while somebody else
 * reads from the same primary over the same line is shown for information.
 */
import { type ReplicatedSite, startReplicatedSite } from '../e2e/replicated-site.ts'
import { type Content, randomContent } from '../support/content.ts'
import { buildImage, type Image } from '../support/images.ts'
import { mintToken, repositoryAccess } from '../support/keys.ts'
import { bearer } from '../support/login.ts'
import { pushImage } from '../support/push-image.ts'
import { until } from '../support/wait.ts'
import { median, takeTurns, writtenBack } from './measure.ts'
import type { PlannedRequest } from './reader.ts'
import { read, throughput } from './readers.ts'
import { tagIsHere } from './replication-held.ts'
import { atLeast, information, mebibytes, megabytesPerSecond, type Row } from './report.ts'
import { expectStatus, LONG_LINE, MIB } from './scene.ts'

const ROUNDS = 3
const FOR_MS = 8000
const CASES = [
  { sizeBytes: MIB, connections: 8 },
  { sizeBytes: 512 * MIB, connections: 4 },
]
const BOUND = 0.8
const WARM = 'bench/warm'
const COPIED = 'bench/copied'
/** Enough for the line to be full while clients are measured, and reading to begin. */
const LAYERS = Array.from({ length: 6 }, () => 128 * MIB)
/** As many connections as the replicator has for one blob. */
const OTHERS = 6
const OTHERS_BYTES = 64 * MIB

export async function measureReplicationBeside(): Promise<Row[]> {
  const rows: Row[] = []
  for (const { sizeBytes, connections } of CASES) {
    await using site = await startReplicatedSite({ repositories: [WARM, COPIED] })
    site.link.shape(LONG_LINE)
    const warm = await randomContent(sizeBytes, { seed: sizeBytes })
    await expectWarm(site, warm)
    const others = await randomContent(OTHERS_BYTES, { seed: 'others' })
    expectStatus(await site.there.pushBlob(WARM, others), 201)
    const requests = { warm: await getBlob(site, warm), others: await getBlob(site, others) }
    const clients = () => throughput(site.one.site.url, requests.warm, { connections, forMs: FOR_MS })
    const copiedAt: number[] = []
    const readAt: number[] = []
    const figures = await takeTurns(ROUNDS, {
      alone: clients,
      others: () => whileOthersRead(site, requests.others, clients, (rate) => readAt.push(rate)),
      async beside(round) {
        const image = await buildImage({ seed: `${sizeBytes}/${round}`, layers: LAYERS, gzip: false })
        return await whileCopying(site, image, clients, (rate) => copiedAt.push(rate))
      },
    })
    const [beside, fair, alone] = [median(figures.beside), median(figures.others), median(figures.alone)]
    const work = `warm blob, ${mebibytes(sizeBytes)} × ${connections} connections, while ${megabytesPerSecond(median(copiedAt))} are copied`
    rows.push(
      atLeast(
        {
          work,
          geoRegistry: megabytesPerSecond(beside),
          against: `while nothing goes on ${megabytesPerSecond(alone)}`,
        },
        beside / alone,
        BOUND,
      ),
      information(
        `${work}, against clients beside somebody else's reading`,
        megabytesPerSecond(beside),
        `while another reads ${megabytesPerSecond(median(readAt))} from the primary ${megabytesPerSecond(fair)}`,
      ),
    )
  }
  return rows
}

/** The line's rate while `work` went on. */
async function measured<T>(
  site: ReplicatedSite,
  work: () => Promise<T>,
  onRate: (bytesPerSecond: number) => void,
): Promise<T> {
  const [bytes, atMs] = [site.link.counts().down, performance.now()]
  const result = await work()
  onRate(((site.link.counts().down - bytes) / (performance.now() - atMs)) * 1000)
  return result
}

async function whileOthersRead(
  site: ReplicatedSite,
  request: PlannedRequest,
  clients: () => Promise<number>,
  onRate: (bytesPerSecond: number) => void,
): Promise<number> {
  const plan = { url: site.link.url, requests: [request], repeatForMs: FOR_MS + 2000 }
  const reading = read(Array.from({ length: OTHERS }, () => plan))
  await lineIsBusy(site)
  const rate = await measured(site, clients, onRate)
  await reading
  return rate
}

async function lineIsBusy({ link }: ReplicatedSite): Promise<void> {
  const before = link.counts().down
  await until(() => link.counts().down > before + MIB, { what: 'the line to be busy' })
}

async function whileCopying(
  site: ReplicatedSite,
  image: Image,
  clients: () => Promise<number>,
  onRate: (bytesPerSecond: number) => void,
): Promise<number> {
  const tag = image.digest.slice(-12)
  await pushImage(site.there, COPIED, tag, image)
  // What the primary wrote is not this site's work.
  await writtenBack()
  await lineIsBusy(site)
  const rate = await measured(site, clients, onRate)
  await lineIsBusy(site) // Else it was copied before the clients had ended, and nothing was measured.
  await tagIsHere({ root: site.one.site.root, repository: COPIED, tag }, image)
  // What comes next is measured beside nothing at all.
  await site.inStep()
  return rate
}

/** On the primary, then here, then asked for once more. */
async function expectWarm(site: ReplicatedSite, warm: Content): Promise<void> {
  expectStatus(await site.there.pushBlob(WARM, warm), 201)
  for (let pull = 0; pull < 2; pull++) {
    const answer = await site.here.getBlob(WARM, warm.digest)
    expectStatus(answer, 200)
    if (answer.cut || answer.digest !== warm.digest) throw new Error(`not the bytes of ${warm.digest}`)
  }
}

async function getBlob(site: ReplicatedSite, { digest }: Content): Promise<PlannedRequest> {
  const token = await mintToken(site.one.key, { access: [repositoryAccess(WARM, ['pull'])], sub: 'user' })
  return { path: `/v2/${WARM}/blobs/${digest}`, headers: { authorization: bearer(token) } }
}
