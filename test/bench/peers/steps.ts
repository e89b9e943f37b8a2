/** The work that every contender is given, one contender at a time. */
import { writeFile } from 'node:fs/promises'
import { memoryOf } from '../../support/geo-registry.ts'
import { createRegistryApi } from '../../support/registry-api.ts'
import { until } from '../../support/wait.ts'
import { median, requestRate, writtenBack } from '../measure.ts'
import { read, readLast, throughput } from '../readers.ts'
import { clientAddress, expectStatus, REPOSITORY, TAG } from '../scene.ts'
import type { Contender } from './contender.ts'
import { type Course, getContent, getManifest } from './course.ts'
import type { Figures } from './rows.ts'

export interface Step {
  readonly name: string
  /** Undefined figures: this contender cannot be run so. */
  readonly measure: (contender: Contender, course: Course) => Promise<Figures>
}

/** Cold before warm: what one step pulled is warm in a later one. */
export const STEPS: readonly Step[] = [
  { name: 'warm-up', measure: warmUp },
  { name: 'cold first bytes', measure: coldFirstBytes },
  { name: 'cold rate', measure: coldRate },
  { name: 'cold big blob', measure: coldBig },
  { name: 'warm manifests', measure: warmManifests },
  { name: 'warm blobs', measure: warmBlobs },
  { name: 'crowd', measure: crowd },
]

/** Connections to the primary are open and compilers have seen the work; and only right answers are compared. */
async function warmUp({ url, askingUrl, trustingUrl }: Contender, course: Course): Promise<Figures> {
  for (const content of course.warmUps) await readLast(url, [getManifest(TAG), getContent(content)])
  for (const origin of new Set([url, askingUrl, trustingUrl])) {
    if (origin === undefined) continue
    await using api = createRegistryApi(origin)
    // Twice: the first fills.
    for (const reference of [TAG, TAG, course.image.digest, course.image.digest]) {
      const answer = await api.getManifest(REPOSITORY, reference)
      expectStatus(answer, 200)
      if (answer.digest !== course.image.digest)
        throw new Error(`${origin} has something else as ${reference}`)
    }
    await manifestRate(origin, TAG, { ...course.measures, seconds: 1 })
  }
  return {}
}

/** One after the other on one connection, as a client that pulls layers does. */
async function coldFirstBytes({ url }: Contender, { singles }: Course): Promise<Figures> {
  const [connection] = await read([{ url, requests: [getManifest(TAG), ...singles.map(getContent)] }])
  const readings = connection?.readings.slice(1) ?? []
  return { coldFirstByte: { value: median(readings.map(({ firstByteMs }) => firstByteMs)) } }
}

async function coldRate({ url }: Contender, { smalls, measures }: Course): Promise<Figures> {
  const plans = Array.from({ length: measures.coldConnections }, (_, connection) => ({
    url,
    requests: smalls.filter((_, index) => index % measures.coldConnections === connection).map(getContent),
  }))
  const connections = await read(plans)
  const tookMs = Math.max(...connections.map(({ elapsedMs }) => elapsedMs))
  return { coldRate: { value: (smalls.length / tookMs) * 1000 } }
}

async function coldBig({ url }: Contender, { big }: Course): Promise<Figures> {
  const { firstByteMs, totalMs } = await readLast(url, [getManifest(TAG), getContent(big)])
  await expectBlob(url, big)
  return { coldBigFirstByte: { value: firstByteMs }, coldBigWhole: { value: totalMs } }
}

async function warmManifests(contender: Contender, { image, measures }: Course): Promise<Figures> {
  const { url, askingUrl, trustingUrl } = contender
  return {
    ...(askingUrl && { manifestAsked: { value: await manifestRate(askingUrl, TAG, measures) } }),
    ...(trustingUrl && { manifestTrusted: { value: await manifestRate(trustingUrl, TAG, measures) } }),
    manifestByDigest: { value: await manifestRate(url, image.digest, measures) },
  }
}

async function manifestRate(url: string, reference: string, measures: Course['measures']): Promise<number> {
  const { path, headers } = getManifest(reference)
  const { seconds, manifestConnections: connections } = measures
  return await requestRate(url + path, { headers, connections, seconds })
}

async function warmBlobs({ url }: Contender, { big, warmUps, measures }: Course): Promise<Figures> {
  const forMs = measures.seconds * 1000
  const [small] = warmUps
  if (!small) throw new Error('a course has blobs to warm up with')
  return {
    warmSmall: { value: await throughput(url, getContent(small), { connections: 8, forMs }) },
    warmBig: { value: await throughput(url, getContent(big), { connections: 4, forMs }) },
  }
}

/** Each client from an address of its own, as clients come. */
async function crowd({ url, line, pid }: Contender, course: Course): Promise<Figures> {
  const { crowded, measures } = course
  await forgetPeak(pid)
  const requests = await course.primaryRequests()
  const bytes = line.counts().down
  const connections = await read(
    Array.from({ length: measures.clients }, (_, client) => ({
      url,
      localAddress: clientAddress(client),
      requests: [getContent(crowded)],
    })),
  )
  await quiet(() => line.counts().down)
  const { peakBytes } = await memoryOf(pid)
  const figures = {
    crowdFirstByte: {
      value: median(connections.map(({ readings }) => readings[0]?.firstByteMs ?? Number.NaN)),
    },
    crowdWhole: { value: Math.max(...connections.map(({ elapsedMs }) => elapsedMs)) },
    crowdRequests: { value: (await course.primaryRequests()) - requests },
    crowdBytes: { value: line.counts().down - bytes },
    crowdMemory: { value: peakBytes },
  }
  await expectBlob(url, crowded)
  return figures
}

/** Linux: the high-water mark of the process begins again at what it has now. */
async function forgetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, '5')
}

/** What is fetched behind the clients' backs counts too. */
async function quiet(bytes: () => number): Promise<void> {
  let before = -1
  await until(
    () => {
      const now = bytes()
      const same = now === before
      before = now
      return same
    },
    { what: 'the line to be quiet', everyMs: 500, deadlineMs: 120_000 },
  )
}

async function expectBlob(url: string, content: Course['big']): Promise<void> {
  await using api = createRegistryApi(url)
  const answer = await api.getBlob(REPOSITORY, content.digest)
  expectStatus(answer, 200)
  if (answer.cut || answer.digest !== content.digest)
    throw new Error(`${url} has not the bytes of ${content.digest}`)
}

/** Before each step: nobody is measured while another's bytes still go to the disk. */
export const settle = writtenBack
