/**
 * What the replicator is told of clients: a repository whose manifest had to be fetched, of which a blob was left half
 * fetched, or that was written to, is worth a look at once. Best effort, after the client has its answer; the proxy
 * knows nothing of who listens.
 */
import type { RepositoryName } from '../src/oci/reference.ts'
import type { Handlers } from './app.ts'
import type { Exchange } from './exchange.ts'

export type Hint = (name: RepositoryName) => void

export function createHinting(handlers: Handlers, hint: Hint): Handlers {
  const afterWrite = ({ response }: Exchange, name: RepositoryName) => {
    if (response.statusCode < 300) hint(name)
  }
  return {
    ...handlers,
    async readManifest(exchange, route) {
      await handlers.readManifest(exchange, route)
      if (exchange.source === 'fill') hint(route.name)
    },
    async readBlob(exchange, route) {
      try {
        await handlers.readBlob(exchange, route)
      } catch (error) {
        // Without a credential of its own, this process leaves what has come of the blob to one that has.
        if (exchange.source === 'fill') hint(route.name)
        throw error
      }
    },
    async putManifest(exchange, route) {
      await handlers.putManifest(exchange, route)
      afterWrite(exchange, route.name)
    },
    async deleteManifest(exchange, route) {
      await handlers.deleteManifest(exchange, route)
      afterWrite(exchange, route.name)
    },
  }
}
