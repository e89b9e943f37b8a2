/** A site that keeps itself in step with a docker-registry which notifies it, both with token auth. */
import type { StatusReport } from '../../src/status/status-report.ts'
import { deepMerge, type Tree } from '../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { onFreePort } from '../support/port.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { type OneSite, REALM, startOneSite } from './one-site.ts'

export const SECRET = 'a-Secret-of-the-registry'
const ALL = ['pull', 'push', 'delete']

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
  /** Resolves when the status says that the site is in step. */
  inStep(deadlineMs?: number): Promise<StatusReport>
}

export interface ReplicatedSiteOptions {
  readonly repositories: readonly string[]
  /** Default true: the primary sends events to the site. */
  readonly notified?: boolean
  readonly config?: Tree
}

export async function startReplicatedSite(options: ReplicatedSiteOptions): Promise<ReplicatedSite> {
  return await onFreePort(async (port) => await start(options, port))
}

async function start(
  { repositories, notified = true, config = {} }: ReplicatedSiteOptions,
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
  const link = starting.use(await startLink({ target: primary.url }))
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

  async function admin(method: string, path: string): Promise<unknown> {
    const response = await fetch(one.site.adminUrl + path, { method })
    if (!response.ok)
      throw new Error(`${method} ${path} was answered ${response.status}: ${await response.text()}`)
    return await response.json()
  }
  const status = async () => (await admin('GET', '/status')) as StatusReport
  return {
    one,
    primary,
    link,
    eventsUrl,
    here,
    there,
    status,
    admin,
    async inStep(deadlineMs = 20_000) {
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
    },
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
