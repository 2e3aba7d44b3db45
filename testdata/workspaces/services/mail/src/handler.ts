// Enums and the paths of tsconfig.json are more than types that can be left out.
import { total } from '@acme/shared'
import { greeting } from '~/greeting'

enum Size { Small, Large }

interface Event {
  name: string
  price: string
}

export const handler = async (event: Event): Promise<{ text: string }> => {
  const size = total([{ id: '1', price: event.price }]) > 1000 ? Size.Large : Size.Small
  return { text: `${greeting(event.name)}, ${Size[size]}` }
}
