/** What comparing an unchanged repository of 10 000 tags costs its primary: requests, and notifications it causes. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseRepositoryName, parseTag } from '../../src/oci/reference.ts'
import type { StatusReport } from '../../src/status/status-report.ts'
import { createStorePaths } from '../../src/store/paths.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import type { GeoRegistry } from '../support/geo-registry.ts'
import { type GitlabApi, startGitlabApi } from '../support/gitlab-api.ts'
import { type HttpListener, listenHttp } from '../support/http-listener.ts'
import { pushImage } from '../support/push-image.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { absolute, information, type Row } from './report.ts'
import { expectStatus, REPOSITORY, type Scene, TAG } from './scene.ts'

const TAGS = 10_000
const PAGES = TAGS / 1000
/** What kind of registry the primary is, and what keeps a connection to it warm: asked whatever is compared. */
const NOT_COUNTED = ['GET /gitlab/v1/', 'GET /v2/']
/** The first copy of so many tags on a busy machine. */
const DEADLINE_MS = 300_000

interface Asked {
  readonly lists: number
  readonly manifests: number
  readonly others: readonly string[]
  /** The primary's notifications. */
  readonly events: number
  readonly seconds: number
}

export async function measureReplicationReconcile(scene: Scene): Promise<Row[]> {
  await using folder = await tempFolder('site-key')
  await using events = await countEvents()
  const notifications = { endpoints: [{ name: 'count', url: events.url, timeout: '1s', threshold: 5 }] }
  await using primary = await startDockerRegistry({ auth: scene.tokenService, notifications })
  await using api = scene.api(primary.url)
  await pushImage(api, REPOSITORY, TAG, scene.image)
  await tagAgain(primary, TAGS)

  await using plain = await startGitlabApi(primary, { database: false })
  await using gitlab = await startGitlabApi(primary)
  const { issuer, service, key } = scene.tokenService
  const keyfile = await folder.write('site.key', key.privateKeyPem, 0o600)
  const startedAtMs = performance.now()
  await using site = await scene.startSite({
    primary: plain.url,
    config: {
      upstream: { auth: { keyfile, issuer, service } },
      replication: { enabled: true, requests: '10000/s' },
    },
  })
  await inStep(site, DEADLINE_MS)
  const firstSeconds = (performance.now() - startedAtMs) / 1000
  const count = (front: GitlabApi) => askedFor(site, front, events, () => canary(scene, primary, events))
  const oneByOne = await count(plain)
  await site.restart({ primary: gitlab.url })
  const byList = await count(gitlab)

  const work = `reconcile of an unchanged repository with ${TAGS} tags`
  return [
    absolute(
      `${work}, GitLab's API`,
      describe(byList),
      `${PAGES} requests, no manifest fetched, no notification`,
      byList.lists === PAGES && byList.manifests + byList.others.length + byList.events === 0,
    ),
    absolute(
      `${work}, plain Distribution`,
      describe(oneByOne),
      'one conditional request per tag, no notification',
      oneByOne.manifests === TAGS && oneByOne.others.length + oneByOne.events === 0,
    ),
    information(`first copy of ${TAGS} tags of one image, loopback`, `${firstSeconds.toFixed(1)} s`),
  ]
}

function describe({ lists, manifests, others, events, seconds }: Asked): string {
  const parts = [`${lists} requests for lists`, `${manifests} for manifests`, `${events} notifications`]
  if (others.length > 0) parts.push(`${others.length} other requests (${others[0]})`)
  return `${parts.join(', ')}; ${seconds.toFixed(1)} s`
}

/** What one comparison asks of the primary. By a hand, since the period's half is hours away: nothing else differs. */
async function askedFor(
  site: GeoRegistry,
  front: GitlabApi,
  events: EventCounter,
  settled: () => Promise<void>,
): Promise<Asked> {
  await settled()
  const [requestsBefore, eventsBefore] = [front.requests.length, events.count]
  const startedAtMs = performance.now()
  const answer = await fetch(`${site.adminUrl}/repositories/${REPOSITORY}/reverify`, { method: 'POST' })
  expectStatus(answer, 200)
  await inStep(site, DEADLINE_MS)
  const seconds = (performance.now() - startedAtMs) / 1000
  await settled()
  const requests = front.requests.slice(requestsBefore).filter((request) => !NOT_COUNTED.includes(request))
  const lists = requests.filter((request) => request.includes('/tags/list'))
  const manifests = requests.filter((request) => request.startsWith('GET') && request.includes('/manifests/'))
  return {
    lists: lists.length,
    manifests: manifests.length,
    others: requests.filter((request) => !lists.includes(request) && !manifests.includes(request)),
    // One is the canary's.
    events: events.count - eventsBefore - 1,
    seconds,
  }
}

async function inStep(site: GeoRegistry, deadlineMs: number): Promise<void> {
  const what = `${TAGS} tags to be in step`
  await until(
    async () => {
      const response = await fetch(`${site.adminUrl}/status`)
      const status = (await response.json()) as StatusReport
      return status.in_step && status.container_repositories_count === 1
    },
    { what, deadlineMs, everyMs: 100 },
  )
}

/** As that many pushes of the same image under other names would leave it. */
async function tagAgain(primary: DockerRegistry, tags: number): Promise<void> {
  const paths = createStorePaths(primary.root)
  const name = parseRepositoryName(REPOSITORY)
  if (!name) throw new Error(`${REPOSITORY} is no name`)
  const linkOf = (text: string) => {
    const tag = parseTag(text)
    if (!tag) throw new Error(`${text} is no tag`)
    return paths.tagLink(name, tag)
  }
  const digest = await readFile(linkOf(TAG))
  for (let tag = 1; tag < tags; tag++) {
    const file = linkOf(`build-${tag}`)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, digest)
  }
}

interface EventCounter extends HttpListener {
  readonly count: number
  /** User agents of the requests that caused them. */
  readonly agents: ReadonlySet<string>
}

async function countEvents(): Promise<EventCounter> {
  let count = 0
  const agents = new Set<string>()
  const listener = await listenHttp((request, response) => {
    void request.toArray().then((chunks) => {
      const envelope: unknown = JSON.parse(Buffer.concat(chunks as Buffer[]).toString('utf8'))
      const { events } = envelope as { events: { request?: { useragent?: string } }[] }
      count += events.length
      for (const event of events) agents.add(event.request?.useragent ?? '')
      response.writeHead(200).end()
    })
  })
  return {
    ...listener,
    get count() {
      return count
    },
    agents,
  }
}

let canaries = 0

/** A registry delivers its events in order: once this pull's has come, all before it have. */
async function canary(scene: Scene, primary: DockerRegistry, events: EventCounter): Promise<void> {
  const agent = `canary/${canaries++}`
  await using api = scene.api(primary.url)
  expectStatus(await api.getManifest(REPOSITORY, TAG, { 'user-agent': agent }), 200)
  await until(() => events.agents.has(agent), { what: `the event of ${agent}`, deadlineMs: DEADLINE_MS })
}
