/** A site that keeps itself in step with a docker-registry which notifies it, both with token auth. */
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { RepositoryRow } from '../../src/status/rows.ts'
import type { StatusReport } from '../../src/status/status-report.ts'
import type { StreamLine } from '../../src/status/streamed.ts'
import { deepMerge, type Tree } from '../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { onFreePort } from '../support/port.ts'
import { ProgramError, runProgram } from '../support/process.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { type OneSite, REALM, startOneSite } from './one-site.ts'
import { registryFolder } from './registry-folder.ts'

export const SECRET = 'a-Secret-of-the-registry'
const ALL = ['pull', 'push', 'delete']
const MAIN = join(import.meta.dirname, '../../src/main.ts')

export interface CommandResult {
  readonly status: number
  /** Of a command that failed, standard error and output. */
  readonly output: string
}

export interface ReplicatedSite extends AsyncDisposable {
  readonly one: OneSite
  readonly primary: DockerRegistry
  /** Between the site and its primary; events do not go over it. */
  readonly link: Link
  /** Where the site takes events. */
  readonly eventsUrl: string
  /** Clients that may do everything with `repositories`, at the site and at the primary. */
  readonly here: RegistryApi
  readonly there: RegistryApi
  /** `GET /status`. */
  status(): Promise<StatusReport>
  /** What any path of the admin listener answers. */
  admin(method: string, path: string): Promise<unknown>
  /** As `admin`, for work whose answer comes in lines: the last of them, which is its result or its error. */
  longWork(method: string, path: string): Promise<StreamLine>
  /** The tracked repositories, at most 1000 of them. */
  rows(): Promise<readonly RepositoryRow[]>
  /** `geo-registry <words>` with the site's configuration. */
  command(...words: readonly string[]): Promise<CommandResult>
  /** Starts the site anew, with other settings than it was first started with. */
  reconfigure(config: Tree): Promise<void>
  /** Resolves when every tag of the primary is here, no other is, and the status says so. Read from the disks. */
  converged(deadlineMs?: number): Promise<void>
  /** Resolves when the status says that the site is in step. */
  inStep(deadlineMs?: number): Promise<StatusReport>
}

export interface ReplicatedSiteOptions {
  readonly repositories: readonly string[]
  /** Default true: the primary sends events to the site. */
  readonly notified?: boolean
  readonly config?: Tree
  /** What the site talks to in the primary's place; default the primary itself. */
  readonly front?: (primaryUrl: string) => Promise<AsyncDisposable & { readonly url: string }>
}

export async function startReplicatedSite(options: ReplicatedSiteOptions): Promise<ReplicatedSite> {
  return await onFreePort(async (port) => await start(options, port))
}

async function start(
  { repositories, notified = true, config = {}, front }: ReplicatedSiteOptions,
  eventsPort: number,
): Promise<ReplicatedSite> {
  await using starting = new AsyncDisposableStack()
  const key = await signingKey()
  const folder = starting.use(await tempFolder('site-key'))
  const keyfile = await folder.write('site.key', key.privateKeyPem, 0o600)
  const eventsUrl = `http://127.0.0.1:${eventsPort}/notifications`
  const auth = { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key }
  const primary = starting.use(
    await startDockerRegistry({ auth, ...(notified && { notifications: notificationsTo(eventsUrl) }) }),
  )
  const target = front ? starting.use(await front(primary.url)).url : primary.url
  const link = starting.use(await startLink({ target }))
  const base: Tree = {
    http: { events: { addr: `127.0.0.1:${eventsPort}` } },
    upstream: { auth: { keyfile, issuer: auth.issuer, service: auth.service } },
    replication: { enabled: true, notifications: { secret: SECRET }, requests: '1000/s' },
  }
  const one = starting.use(await startOneSite(link.url, deepMerge(base, config)))
  const grants = Object.fromEntries(repositories.map((name) => [name, ALL]))
  const here = await one.client(grants)
  const there = await one.client(grants, primary.url)
  const owned = starting.move()

  async function ask(method: string, path: string): Promise<string> {
    const response = await fetch(one.site.adminUrl + path, { method })
    const body = await response.text()
    if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status}: ${body}`)
    return body
  }
  const admin = async (method: string, path: string): Promise<unknown> => JSON.parse(await ask(method, path))
  async function command(...words: readonly string[]): Promise<CommandResult> {
    const args = [MAIN, ...words, '--config', one.site.configFile]
    try {
      return { status: 0, output: (await runProgram(process.execPath, args)).stdout }
    } catch (error) {
      if (error instanceof ProgramError && error.exit?.code != null) {
        return { status: error.exit.code, output: error.message }
      }
      throw error
    }
  }
  const status = async () => (await admin('GET', '/status')) as StatusReport
  async function inStep(deadlineMs = 20_000): Promise<StatusReport> {
    let last: StatusReport | undefined
    try {
      return await until(
        async () => {
          last = await status()
          return last.in_step && last
        },
        { what: 'the site to be in step', deadlineMs },
      )
    } catch (cause) {
      throw new Error(`not in step: ${JSON.stringify(last, null, 1)}\n${one.site.logs().slice(-5000)}`, {
        cause,
      })
    }
  }
  return {
    one,
    primary,
    link,
    eventsUrl,
    here,
    there,
    status,
    admin,
    async longWork(method, path) {
      const lines = (await ask(method, path)).trimEnd().split('\n')
      return JSON.parse(lines.at(-1) ?? '') as StreamLine
    },
    command,
    reconfigure: (changed) => one.site.restart({ config: deepMerge(deepMerge(base, config), changed) }),
    async rows() {
      const answer = await admin('GET', '/repositories?limit=1000')
      return (answer as { readonly repositories: readonly RepositoryRow[] }).repositories
    },
    async converged(deadlineMs = 20_000) {
      const [hereOnDisk, thereOnDisk] = [registryFolder(one.site.root), registryFolder(primary.root)]
      await until(async () => isDeepStrictEqual(await hereOnDisk.allTags(), await thereOnDisk.allTags()), {
        what: 'the tags here to be those of the primary',
        deadlineMs,
        everyMs: 100,
      })
      await inStep(deadlineMs)
    },
    inStep,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** As GitLab's documentation configures it, repeated sooner. */
function notificationsTo(url: string): Tree {
  const headers = { Authorization: [SECRET] }
  return {
    endpoints: [{ name: 'geo-registry', url, timeout: '500ms', threshold: 5, backoff: '100ms', headers }],
  }
}
