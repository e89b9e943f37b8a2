/** Asks the running process and takes only an answer that is one; every other becomes `CommandFailed` in plain words. */
import { askAdmin, streamAdmin } from '../admin-client.ts'
import type { AdminConfig } from '../config.ts'
import type { StreamLine } from '../status/streamed.ts'
import { CommandFailed } from './command-output.ts'

type Query = Readonly<Record<string, string | boolean | undefined>>

export interface Asking {
  /** The members of the answer. `T` is what the API of this version answers. */
  ask<T extends object>(method: 'GET' | 'POST', path: string, query?: Query): Promise<T>
  /** As `ask`; undefined for 404, where the API says that there is no such thing. */
  find<T extends object>(method: 'GET' | 'POST', path: string, query?: Query): Promise<T | undefined>
  /** Answers that come in lines. */
  stream(method: 'GET' | 'POST', path: string, query?: Query): AsyncIterable<StreamLine>
}

/** What the admin listener says where it has no such route at all: no replicator runs there. */
const NO_SUCH_PATH = 'no such path'

/** Throws `CommandFailed`, and `AdminUnreachable` from every function. */
export function createAsking(admin: AdminConfig): Asking {
  if (admin.listen.port === 0) {
    throw new CommandFailed(
      'http.admin.addr: port 0 is another one at each start; expected the port to ask on',
      2,
    )
  }
  return {
    async ask<T extends object>(method: 'GET' | 'POST', path: string, query?: Query) {
      const { status, body } = await askAdmin(admin, method, withQuery(path, query))
      return accept<T>(status, body)
    },
    async find<T extends object>(method: 'GET' | 'POST', path: string, query?: Query) {
      const { status, body } = await askAdmin(admin, method, withQuery(path, query))
      const error = errorIn(body)
      if (status === 404 && error !== undefined && error !== NO_SUCH_PATH) return undefined
      return accept<T>(status, body)
    },
    async *stream(method, path, query) {
      const { status, lines } = await streamAdmin(admin, method, withQuery(path, query))
      if (status !== 200) {
        let body = ''
        for await (const line of lines) body += line
        accept(status, body)
        return
      }
      for await (const line of lines) yield accept<StreamLine>(status, line)
    },
  }
}

/** A path component or a whole path with slashes, as it stands in a URL. */
export function inUrl(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}

function withQuery(path: string, query: Query = {}): string {
  const given = Object.entries(query).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, String(value)]],
  )
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`
}

function accept<T extends object>(status: number, body: string): T {
  const answer = parseObject(body)
  if (status === 200 && answer !== undefined) return answer as T
  if (status === 401) {
    throw new CommandFailed(
      'the running process did not accept http.admin.token: expected the one it was started with',
      1,
    )
  }
  const error = errorIn(body)
  if (status === 404 && error === NO_SUCH_PATH) {
    throw new CommandFailed(
      'the process that answered runs no replicator, or is another version of geo-registry',
      1,
    )
  }
  throw new CommandFailed(`the running process answered ${status}: ${error ?? body}`, 1)
}

function errorIn(body: string): string | undefined {
  const answer = parseObject(body)
  return answer !== undefined && 'error' in answer ? String(answer.error) : undefined
}

function parseObject(json: string): object | undefined {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined // Somebody else listens there; the caller shows what was said.
  }
}
