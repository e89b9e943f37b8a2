/** The bus of a site that is one process: everybody who listens is here. */
import type { Logger } from '../log.ts'
import type { Bus } from './bus.ts'
import { createListeners } from './listeners.ts'

export function createMemoryBus({ log }: { readonly log: Logger }): Bus {
  const listeners = createListeners(log)
  let closed = false
  return {
    publish(message) {
      if (!closed) listeners.tell(message)
    },
    on: listeners.on,
    // Nothing is ever missed.
    onGap: listeners.onGap,
    async [Symbol.asyncDispose]() {
      closed = true
    },
  }
}
