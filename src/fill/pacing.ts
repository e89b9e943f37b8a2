/**
 * The site's own fetches among those a flight is for: over how many requests at a time they want it read, and at whose
 * pace while no client follows. A client never waits for a pace.
 */

/** What a fetch asks of the flight; a client asks for nothing of it. */
export interface Background {
  /** Requests at a time. */
  readonly connections: number
  /** As `FetchOptions.pace`. */
  readonly pace: ((bytes: number, signal: AbortSignal) => Promise<void>) | undefined
}

export interface Pacing {
  /** A fetch, or with undefined a client, takes part until the returned function is called. */
  join(background: Background | undefined): () => void
  /** Whether a client takes part. */
  readonly hasClients: boolean
  /** As many requests at a time as the most demanding fetch wants; 1 without one. */
  readonly connections: number
  /** Tells one pace what has arrived. Resolves when more may be read; undefined when that is now. Never rejects. */
  arrived(bytes: number): Promise<void> | undefined
}

interface Member {
  readonly background: Background
  /** Ends the waits under way: a client has come, or the fetch has left. */
  waits: AbortController
}

export function createPacing(): Pacing {
  const clients = new Set<object>()
  const members = new Set<Member>()

  function joinClient(): () => void {
    const client = {}
    clients.add(client)
    for (const { waits } of members) waits.abort()
    return () => void clients.delete(client)
  }

  function joinFetch(background: Background): () => void {
    const member = { background, waits: new AbortController() }
    members.add(member)
    return () => {
      members.delete(member)
      member.waits.abort()
    }
  }

  return {
    join: (background) => (background ? joinFetch(background) : joinClient()),
    get hasClients() {
      return clients.size > 0
    },
    get connections() {
      let most = 1
      for (const { background } of members) most = Math.max(most, background.connections)
      return most
    },
    arrived(bytes) {
      if (clients.size > 0) return undefined
      for (const member of members) {
        const { pace } = member.background
        if (!pace) continue
        if (member.waits.signal.aborted) member.waits = new AbortController()
        // It rejects only because it was told to wait no longer.
        return pace(bytes, member.waits.signal).catch(() => undefined)
      }
      return undefined
    },
  }
}
